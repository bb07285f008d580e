"""Who answers: pure functions from a request's facts and the models' state to an ordered list with reasons.

No clock, no chance, no I/O: `Facts.draw` is the only chance there is. The order of the checks is fixed and no
policy, a custom one included, can step over it: what is forbidden, what is impossible, what the policy leaves
out, what is over budget, what is down.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import cast, get_args

from appliance.config.routing import PolicyName, Routing, Rule
from appliance.errors import InvalidValue, ModelNotFound
from appliance.routing.decision import Candidate, Decision, Facts, ModelState, Rejected
from appliance.routing.registry import Model, Registry
from appliance.routing.request import ANSWER_GUESS

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)

Ordered = list[Candidate]
States = Mapping[str, ModelState]
# Orders eligible models, best first; those it leaves out are not asked. Raises nothing.
CustomPolicy = Callable[[Facts, Sequence[Model], States], Sequence[tuple[Model, str]]]

_UNKNOWN = ModelState()


def decide(
    facts: Facts, registry: Registry, routing: Routing, states: States, custom: CustomPolicy | None = None
) -> Decision:
    """The decision for one request. Raises ModelNotFound, and InvalidValue for an unknown policy in the
    header.
    """
    rule = _matching_rule(facts, routing)
    policy, why = _policy(facts, routing, rule)
    eligible = _eligible(facts, registry, routing, rule)
    rejected: list[Rejected] = []
    able = [model for model in eligible if _admit(model, facts, policy, why, rejected)]
    ordered = _ordered(policy, facts, able, routing, states, custom)
    ordered = _asked_for_first(facts, registry, ordered, policy)
    chosen = {candidate.model.id for candidate in ordered}
    rejected += [
        Rejected(model=model, why="policy", reason=_left_out(policy, model, routing))
        for model in able
        if model.id not in chosen
    ]
    candidates = [each for each in ordered if _is_up(each, states.get(each.model.id, _UNKNOWN), rejected)]
    return Decision(
        facts=facts,
        policy=policy,
        policy_reason=why,
        candidates=tuple(candidates),
        rejected=tuple(rejected),
    )


# Which policy, which models


def _matching_rule(facts: Facts, routing: Routing) -> Rule | None:
    def matches(rule: Rule) -> bool:
        return (
            rule.task in ("", facts.task)
            and (not rule.key or fnmatchcase(facts.key, rule.key))
            and (not rule.model or fnmatchcase(facts.model, rule.model))
            and (not rule.base or any(fnmatchcase(base, rule.base) for base in facts.bases))
        )

    return next((rule for rule in routing.rules if matches(rule)), None)


def _policy(facts: Facts, routing: Routing, rule: Rule | None) -> tuple[PolicyName, str]:
    """The policy and where it comes from. Nothing loosens `local-only`."""
    asked = facts.policy
    if asked and (asked not in POLICIES or asked == "custom"):
        known = ", ".join(name for name in POLICIES if name != "custom")
        raise InvalidValue(f"there is no policy {asked!r}; there are: {known}", param="x-hearth-policy")
    if routing.mode == "offline":
        return "local-only", "the mode is offline"
    if facts.is_local_only:
        return "local-only", "the request may not leave this machine"
    for base in facts.bases:
        if any(fnmatchcase(base, pattern) for pattern in routing.local_only_bases):
            return "local-only", f"the knowledge base {base} never leaves this machine"
    if rule is not None:
        configured, why = rule.policy, f"rule {routing.rules.index(rule) + 1}"
    elif facts.role != "chat":
        configured, why = "local-only", f"{facts.role} stays local unless a rule says otherwise"
    else:
        configured, why = routing.policy, "the default policy"
    if not asked or asked == configured:
        return configured, why
    if not routing.header:
        return configured, f"{why}; the header x-hearth-policy is not obeyed here"
    if configured == "local-only":
        return configured, f"{why}; the header cannot loosen local-only"
    return cast(PolicyName, asked), "the header x-hearth-policy"


def _eligible(facts: Facts, registry: Registry, routing: Routing, rule: Rule | None) -> tuple[Model, ...]:
    """The models that the name stands for, or those of the rule, then the local ones that may step in."""
    if rule is not None and rule.models:
        named = tuple(model for model in registry.of(rule.models) if model.role == facts.role)
    else:
        named = _resolved(facts, registry)
    if facts.scope is not None:
        named = tuple(model for model in named if _is_in_scope(model, facts.scope))
        if not named:
            raise ModelNotFound(f"there is no model {facts.model!r} for this key", param="model")
    stand_ins: tuple[Model, ...] = ()
    # Another model's vectors would mean something else: an embedding has no stand-in.
    if routing.fallback and facts.role != "embed" and not any(model.is_local for model in named):
        stand_ins = tuple(
            model
            for model in registry.models
            if model.is_local and model.role == facts.role and _is_in_scope(model, facts.scope)
        )
    return tuple({model.id: model for model in named + stand_ins}.values())


def _resolved(facts: Facts, registry: Registry) -> tuple[Model, ...]:
    """As the registry has it; but whom a scope binds is not told what else there is."""
    try:
        return registry.resolve(facts.model, facts.role)
    except ModelNotFound:
        if facts.scope is None:
            raise
        return ()


def _is_in_scope(model: Model, scope: tuple[str, ...] | None) -> bool:
    """A model outside of a key's scope does not exist for it."""
    return scope is None or any(
        fnmatchcase(name, pattern) for name in (model.public_name, model.id) for pattern in scope
    )


# Checks that no policy steps over


def _admit(model: Model, facts: Facts, policy: str, why: str, rejected: list[Rejected]) -> bool:
    """Whether the model may and can answer; else it is added to `rejected` with the reason."""
    if policy == "local-only" and not model.is_local:
        rejected.append(Rejected(model=model, why="forbidden", reason=f"local-only: {why}"))
        return False
    lacks = tuple(sorted(facts.needs - model.capabilities))
    if lacks:
        rejected.append(
            Rejected(model=model, why="incapable", reason=f"cannot do {', '.join(lacks)}", lacks=lacks)
        )
        return False
    # A local worker counts the tokens itself; a guess must not refuse what would have fitted.
    guess = facts.prompt_tokens + facts.answer_tokens
    if not model.is_local and model.context_length and guess > model.context_length:
        reason = f"takes {model.context_length} tokens, the request needs about {guess}"
        rejected.append(Rejected(model=model, why="context", reason=reason))
        return False
    return True


def _is_up(candidate: Candidate, state: ModelState, rejected: list[Rejected]) -> bool:
    model = candidate.model
    if state.over_budget and not model.is_local:
        rejected.append(Rejected(model=model, why="budget", reason=state.over_budget))
        return False
    if state.down_for > 0:
        reason = f"keeps failing; tried again in {state.down_for:.0f} s"
        rejected.append(Rejected(model=model, why="down", reason=reason, retry_after=state.down_for))
        return False
    return True


# Orders


def _ordered(
    policy: PolicyName,
    facts: Facts,
    models: Sequence[Model],
    routing: Routing,
    states: States,
    custom: CustomPolicy | None,
) -> Ordered:
    match policy:
        case "local-only":
            return [_candidate(m, "local-only: a model of this machine") for m in _by_quality(models)]
        case "online-first":
            return _by_place(models, online_first=True)
        case "local-first":
            return _by_place(models, online_first=False)
        case "best":
            return [_candidate(m, f"best: quality {m.quality}") for m in _by_quality(models)]
        case "cheapest":
            return _cheapest(facts, models, routing.quality_floor)
        case "fastest":
            return _fastest(facts, models, states)
        case "split":
            return _split(facts, models, routing)
        case "custom":  # pragma: no branch – a policy is one of these, which mypy proves
            return _custom(facts, models, states, custom)


def _candidate(model: Model, reason: str, arm: str = "") -> Candidate:
    return Candidate(model=model, reason=reason, arm=arm)


def _by_quality(models: Sequence[Model]) -> list[Model]:
    return sorted(models, key=lambda model: -model.quality)  # stable: equals keep the configured order


def _by_place(models: Sequence[Model], *, online_first: bool) -> Ordered:
    name = "online-first" if online_first else "local-first"
    ranked = sorted(_by_quality(models), key=lambda model: model.is_local is online_first)
    return [
        _candidate(m, f"{name}: {'local' if m.is_local else 'online'}, quality {m.quality}") for m in ranked
    ]


def _cheapest(facts: Facts, models: Sequence[Model], floor: int) -> Ordered:
    answer = facts.answer_tokens or ANSWER_GUESS

    def price(model: Model) -> float:
        return model.price(facts.prompt_tokens, answer)

    good = [model for model in _by_quality(models) if model.quality >= floor]
    return [
        _candidate(m, f"cheapest: about {price(m):.6f}, quality {m.quality}") for m in sorted(good, key=price)
    ]


def _fastest(facts: Facts, models: Sequence[Model], states: States) -> Ordered:
    """By measured time of the whole answer; a model not measured yet goes first, so that it gets measured."""
    answer = facts.answer_tokens or ANSWER_GUESS

    def seconds(model: Model) -> float | None:
        state = states.get(model.id, _UNKNOWN)
        if state.first_token_seconds is None:
            return None
        return state.first_token_seconds + answer * (state.token_seconds or 0.0)

    def place(model: Model) -> float:
        measured = seconds(model)
        return -1.0 if measured is None else measured

    def reason(model: Model) -> str:
        measured = seconds(model)
        return "fastest: not measured yet" if measured is None else f"fastest: about {measured:.3f} s"

    return [_candidate(m, reason(m)) for m in sorted(_by_quality(models), key=place)]


def _split(facts: Facts, models: Sequence[Model], routing: Routing) -> Ordered:
    """Weighted rendezvous hashing: each arm gets its share, and a key's order over the arms never changes.

    Score -ln(u)/w with u from the hash of arm and key (Thaler and Ravishankar, weighted by Schindelhauer).
    """
    sticky = facts.key if routing.split_by == "key" else facts.conversation or facts.key
    scored: list[tuple[float, Model]] = []
    for model in models:
        weight = routing.split.get(model.public_name, routing.split.get(model.id, 0.0))
        if weight > 0:
            scored.append((-math.log(_uniform(model.id, sticky or repr(facts.draw))) / weight, model))
    scored.sort(key=lambda pair: pair[0])
    arms = [model for _, model in scored]
    held = f"kept by {routing.split_by}" if sticky else "drawn"
    chosen = arms[0].public_name if arms else ""
    rest = [model for model in models if model.is_local and model not in arms]
    return [
        _candidate(m, f"split: arm {m.public_name}, {held}" if m is arms[0] else "split: stands in", chosen)
        for m in arms
    ] + [_candidate(m, "split: stands in", chosen) for m in _by_quality(rest)]


def _uniform(*words: str) -> float:
    """In (0, 1), the same for the same words everywhere and always."""
    digest = hashlib.sha256("\x1f".join(words).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)


def _custom(facts: Facts, models: Sequence[Model], states: States, custom: CustomPolicy | None) -> Ordered:
    """A custom policy can order and leave out; what it invents is not asked."""
    if custom is None:
        return []
    allowed = {model.id: model for model in models}
    found: dict[str, Candidate] = {}
    for model, reason in custom(facts, models, states):
        if model.id in allowed and model.id not in found:
            found[model.id] = _candidate(allowed[model.id], f"custom: {reason}"[:200])
    return list(found.values())


def _asked_for_first(facts: Facts, registry: Registry, ordered: Ordered, policy: str) -> Ordered:
    """A model asked for by its own name is tried before any that steps in for it."""
    if policy == "custom" or not registry.is_by_name(facts.model):
        return ordered
    (asked,) = registry.matching(facts.model)
    first = [_candidate(c.model, "asked for by its name", c.arm) for c in ordered if c.model.id == asked.id]
    if not first:
        return ordered
    return first + [
        _candidate(c.model, f"steps in for {asked.public_name}; {c.reason}", c.arm)
        for c in ordered
        if c.model.id != asked.id
    ]


def _left_out(policy: str, model: Model, routing: Routing) -> str:
    if policy == "cheapest":
        return f"quality {model.quality} is below the floor {routing.quality_floor}"
    return "is no arm of the split" if policy == "split" else f"left out by the policy {policy}"
