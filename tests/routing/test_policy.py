"""The policies: who is asked, in which order, with which reason, and what no policy can step over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config.routing import Routing
from appliance.errors import (
    ContextLengthExceeded,
    InvalidValue,
    ModelNotFound,
    Overloaded,
    Unavailable,
    UnsupportedParameter,
)
from appliance.routing.decision import Decision, Facts, ModelState
from appliance.routing.explain import decision_body, decision_text
from appliance.routing.policy import POLICIES, decide
from appliance.routing.registry import Model, Registry

TEXT = frozenset(["completions", "logprobs"])
SMALL = Model(
    platform="local", name="small", public_name="small", quality=20, capabilities=TEXT | {"grammar"}
)
TINY = Model(platform="local", name="tiny", public_name="tiny", quality=10)
CHEAP = Model(
    platform="a", name="cheap", public_name="cheap", quality=60, price_in=1, price_out=2, context_length=8000
)
GOOD = Model(
    platform="b", name="good", public_name="good", quality=90, price_in=5, price_out=20,
    capabilities=frozenset(["tools", "vision"]), context_length=32000,
)  # fmt: skip
ALL = (SMALL, TINY, CHEAP, GOOD)
REGISTRY = Registry((), ALL, {"any": ["*"], "online": ["cheap", "good"]})


def routing(**fields: object) -> Routing:
    return msgspec.convert({"mode": "hybrid", **fields}, Routing)


def decided(facts: Facts, states: dict[str, ModelState] | None = None, **fields: object) -> Decision:
    return decide(facts, REGISTRY, routing(**fields), states or {})


def names(decision: Decision) -> list[str]:
    return [candidate.model.name for candidate in decision.candidates]


ANY = Facts(model="any", prompt_tokens=1000, answer_tokens=100)


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("local-only", ["small", "tiny"]),
        ("local-first", ["small", "tiny", "good", "cheap"]),
        ("online-first", ["good", "cheap", "small", "tiny"]),
        ("best", ["good", "cheap", "small", "tiny"]),
        ("cheapest", ["small", "tiny", "cheap", "good"]),
    ],
)
def test_order_of_each_policy(policy: str, order: list[str]) -> None:
    decision = decided(ANY, policy=policy)
    assert names(decision) == order
    assert all(c.reason.startswith(policy) for c in decision.candidates)
    assert {r.model.name for r in decision.rejected} == {m.name for m in ALL} - set(order)


def test_cheapest_keeps_its_floor() -> None:
    decision = decided(ANY, policy="cheapest", quality_floor=50)
    assert names(decision) == ["cheap", "good"]
    assert "below the floor 50" in decision.rejected[0].reason


def test_fastest_goes_by_the_measured_time_of_the_whole_answer() -> None:
    states = {
        "local/small": ModelState(first_token_seconds=0.1, token_seconds=0.05),
        "a/cheap": ModelState(first_token_seconds=2.0, token_seconds=0.001),
        "b/good": ModelState(first_token_seconds=0.5, token_seconds=0.02),
        "local/tiny": ModelState(first_token_seconds=0.0, token_seconds=1.0),
    }
    assert names(decided(ANY, states, policy="fastest")) == ["cheap", "good", "small", "tiny"]
    short = msgspec.structs.replace(ANY, answer_tokens=1)
    assert names(decided(short, states, policy="fastest"))[0] == "small"
    del states["b/good"]
    assert names(decided(ANY, states, policy="fastest"))[0] == "good"  # to be measured


def test_split_shares_by_weight_and_sticks() -> None:
    fields = {"policy": "split", "split": {"good": 3, "cheap": 1, "small": 0}}

    def arm(conversation: str) -> str:
        facts = msgspec.structs.replace(ANY, conversation=conversation)
        decision = decided(facts, **fields)
        assert decision.candidates[0].arm == decision.candidates[0].model.name
        return decision.candidates[0].arm

    counts = Counter(arm(f"conversation {number}") for number in range(2000))
    assert set(counts) == {"good", "cheap"}
    assert 0.72 < counts["good"] / 2000 < 0.78
    assert len({arm("the same") for _ in range(20)}) == 1


def test_split_leaves_a_broken_arm_for_the_time_being_only() -> None:
    fields = {"policy": "split", "split": {"good": 1, "cheap": 1}}
    for number in range(20):
        facts = msgspec.structs.replace(ANY, conversation=str(number))
        first, second = names(decided(facts, **fields))[:2]
        down = {f"{'a' if first == 'cheap' else 'b'}/{first}": ModelState(down_for=9)}
        assert names(decided(facts, down, **fields))[0] == second
        assert names(decided(facts, **fields))[0] == first


def test_rules_go_by_task_key_model_and_base() -> None:
    rules = [
        {"task": "code", "policy": "best", "models": ["good", "small"]},
        {"key": "intern-*", "policy": "local-only"},
        {"model": "cheap", "policy": "cheapest"},
        {"base": "law*", "policy": "local-first"},
    ]

    def of(**fields: object) -> tuple[str, list[str]]:
        decision = decided(msgspec.structs.replace(ANY, **fields), rules=rules)
        return decision.policy_reason, names(decision)

    assert of(task="code") == ("rule 1", ["good", "small"])
    assert of(key="intern-7") == ("rule 2", ["small", "tiny"])
    assert of(model="cheap")[0] == "rule 3"
    assert of(bases=("hr", "lawsuits"))[0] == "rule 4"
    assert of()[0] == "the default policy"


def test_header_chooses_but_never_loosens() -> None:
    asking = msgspec.structs.replace(ANY, policy="local-first")
    assert decided(asking).policy_reason == "the header x-hearth-policy"
    assert "not obeyed" in decided(asking, header=False).policy_reason
    decision = decided(asking, rules=[{"policy": "local-only"}])
    assert (decision.policy, names(decision)) == ("local-only", ["small", "tiny"])
    assert "cannot loosen" in decision.policy_reason
    with pytest.raises(InvalidValue, match="there are: local-only, local-first"):
        decided(msgspec.structs.replace(ANY, policy="fast"))


def test_model_asked_for_by_name_is_first_and_local_ones_step_in() -> None:
    asked = msgspec.structs.replace(ANY, model="cheap")
    decision = decided(asked, policy="local-first")
    assert names(decision) == ["cheap", "small", "tiny"]
    assert decision.candidates[1].reason.startswith("steps in for cheap")
    assert names(decided(asked, fallback=False)) == ["cheap"]
    assert names(decided(msgspec.structs.replace(ANY, model="small"))) == ["small"]  # never leaves


def test_embedding_stays_local_unless_a_rule_says_otherwise() -> None:
    here = Model(platform="local", name="e", public_name="e", role="embed")
    there = Model(platform="a", name="f", public_name="f", role="embed", quality=90)
    registry = Registry((), (here, there), {})
    facts = Facts(model="auto", task="embed", role="embed")
    assert names(decide(facts, registry, routing(), {})) == ["e"]
    freed = routing(rules=[{"task": "embed", "policy": "best"}])
    assert names(decide(facts, registry, freed, {})) == ["f", "e"]


# Who cannot


def test_incapable_models_are_passed_over_with_the_reason() -> None:
    decision = decided(msgspec.structs.replace(ANY, needs=frozenset(["logprobs"])))
    assert names(decision) == ["small"]
    assert {r.model.name: r.reason for r in decision.rejected}["good"] == "cannot do logprobs"


def test_what_nobody_can_do_is_a_400_that_names_it() -> None:
    wanted = frozenset(["schema", "tools"])
    with pytest.raises(UnsupportedParameter, match="can do answers that keep to a JSON schema \\(") as raised:
        decided(msgspec.structs.replace(ANY, needs=wanted)).require()
    assert raised.value.param == "response_format"
    with pytest.raises(UnsupportedParameter, match=r"all of .*logprobs and .*tools"):
        decided(msgspec.structs.replace(ANY, needs=frozenset(["tools", "logprobs"]))).require()


def test_too_long_for_all_is_a_context_error() -> None:
    facts = msgspec.structs.replace(ANY, model="online", prompt_tokens=40_000)
    with pytest.raises(ContextLengthExceeded, match=r"40100 tokens.* is 32000"):
        decided(facts, fallback=False).require()
    assert names(decided(facts)) == ["small", "tiny"]  # local workers count exactly, and say so themselves


def test_budget_and_breaker_send_the_request_home_with_the_reason() -> None:
    states = {
        "b/good": ModelState(over_budget="the day's 5.00 of key alice are used up"),
        "a/cheap": ModelState(down_for=12.0),
    }
    decision = decided(ANY, states)
    assert names(decision) == ["small", "tiny"]
    reasons = {r.model.name: r.reason for r in decision.rejected}
    assert reasons["good"] == "the day's 5.00 of key alice are used up"
    assert reasons["cheap"] == "keeps failing; tried again in 12 s"


def test_nobody_left_says_when_to_come_back() -> None:
    facts = msgspec.structs.replace(ANY, model="online")
    down = {"b/good": ModelState(down_for=30.2), "a/cheap": ModelState(down_for=12.1)}
    with pytest.raises(Unavailable) as raised:
        decided(facts, down, fallback=False).require()
    assert raised.value.retry_after == 13
    spent = {name: ModelState(over_budget="the budget is used up") for name in down}
    with pytest.raises(Overloaded, match="budget"):
        decided(facts, spent, fallback=False).require()
    with pytest.raises(Unavailable, match="local-only"):
        decided(msgspec.structs.replace(facts, policy="local-only"), fallback=False).require()


def test_custom_policy_orders_but_cannot_step_over_the_checks() -> None:
    def odd(facts: Facts, models: Sequence[Model], states: object) -> list[tuple[Model, str]]:
        stranger = Model(platform="evil", name="x", public_name="x")
        return [(stranger, "mine"), (TINY, "I like it"), (TINY, "twice"), (CHEAP, "then"), (GOOD, "then")]

    facts = msgspec.structs.replace(ANY, needs=frozenset())
    decision = decide(facts, REGISTRY, routing(policy="custom"), {"b/good": ModelState(down_for=1)}, odd)
    assert names(decision) == ["tiny", "cheap"]
    assert decision.candidates[0].reason == "custom: I like it"


# What holds for every request

ids = st.sampled_from([model.id for model in ALL])
seconds = st.floats(0, 100)
states_of = st.dictionaries(
    ids,
    st.builds(
        ModelState,
        first_token_seconds=st.none() | seconds,
        token_seconds=st.none() | seconds,
        down_for=st.sampled_from([0.0, 0.0, 5.0]),
        over_budget=st.sampled_from(["", "", "spent"]),
    ),
)
any_facts = st.builds(
    Facts,
    model=st.sampled_from(["any", "online", "auto", "small", "good", "a/cheap"]),
    task=st.sampled_from(["chat", "code", "summarise"]),
    key=st.sampled_from(["", "alice", "bob"]),
    conversation=st.text(max_size=3),
    bases=st.lists(st.sampled_from(["open", "secret-1", "secret-2"]), max_size=3).map(tuple),
    is_local_only=st.booleans(),
    policy=st.sampled_from(["", *(p for p in POLICIES if p != "custom")]),
    needs=st.frozensets(st.sampled_from(["tools", "logprobs", "schema", "vision"]), max_size=2),
    prompt_tokens=st.integers(0, 50_000),
    answer_tokens=st.integers(0, 5000),
    draw=st.floats(0, 1, exclude_max=True),
)
any_routing = st.builds(
    lambda policy, rule, header, fallback, floor: routing(
        policy=policy,
        rules=[] if rule is None else [{"key": "alice", "policy": rule, "models": ["good", "small"]}],
        header=header,
        fallback=fallback,
        quality_floor=floor,
        split={"good": 2, "small": 1},
        local_only_bases=["secret-*"],
    ),
    st.sampled_from(POLICIES),
    st.none() | st.sampled_from(POLICIES),
    st.booleans(),
    st.booleans(),
    st.integers(0, 100),
)


def leaky(facts: Facts, models: Sequence[Model], states: object) -> list[tuple[Model, str]]:
    return [(model, "everything") for model in (*ALL, *models)]


@settings(max_examples=400, deadline=None)
@given(any_facts, any_routing, states_of)
def test_invariants(facts: Facts, chosen: Routing, states: dict[str, ModelState]) -> None:
    decision = decide(facts, REGISTRY, chosen, states, leaky)
    asked = [candidate.model.id for candidate in decision.candidates]
    left = [rejected.model.id for rejected in decision.rejected]
    assert len(set(asked + left)) == len(asked + left)
    for candidate in decision.candidates:
        assert facts.needs <= candidate.model.capabilities
        assert states.get(candidate.model.id, ModelState()).down_for == 0
        assert candidate.reason
    may_leave = not (
        facts.is_local_only
        or any(base.startswith("secret") for base in facts.bases)
        or decision.policy == "local-only"
    )
    assert may_leave or all(candidate.model.is_local for candidate in decision.candidates)
    assert decide(facts, REGISTRY, chosen, states, leaky) == decision
    assert decision_text(decision).count("\n") >= len(asked) + len(left)
    msgspec.json.encode(decision_body(decision))


def test_nothing_of_a_request_that_may_not_leave_goes_online() -> None:
    routing = Routing(mode="hybrid", policy="online-first")
    found = decide(Facts(model="any", is_local_only=True), REGISTRY, routing, {})
    assert [candidate.model for candidate in found.candidates] == [SMALL, TINY]
    assert found.policy_reason == "the request may not leave this machine"


def test_a_custom_policy_that_is_not_there_orders_nothing() -> None:
    routing = Routing(mode="hybrid", policy="custom")
    found = decide(Facts(model="any"), REGISTRY, routing, {})
    assert found.candidates == ()
    assert {each.why for each in found.rejected} == {"policy"}


# Whose models


def test_what_is_outside_a_scope_does_not_exist() -> None:
    scoped = msgspec.structs.replace(ANY, scope=("small", "b/*"))
    assert names(decided(scoped)) == ["good", "small"]
    assert names(decided(msgspec.structs.replace(scoped, model="good"))) == ["good", "small"]
    for name in ("cheap", "nobody"):
        with pytest.raises(ModelNotFound, match=f"there is no model '{name}' for this key") as hidden:
            decided(msgspec.structs.replace(scoped, model=name))
        assert "tiny" not in hidden.value.message, "and what there is for others is not told"
    with pytest.raises(ModelNotFound, match=r"there are: .*tiny"):
        decided(msgspec.structs.replace(ANY, model="nobody"))
