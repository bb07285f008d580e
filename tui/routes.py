"""Who may answer and how they do, as rows; and why a request would go where it goes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textual.content import Content

from tui import format
from tui.dialogs.form import Field
from tui.language import say
from tui.widgets.table import Cell

BREAKERS = {
    "closed": ("●", "$text-success"),
    "half-open": ("◌", "$text-warning"),
    "open": ("✗", "$text-error"),
}
TASKS = ("chat", "code", "summarise", "embed", "rerank")
POLICIES = ("", "local-only", "local-first", "online-first", "cheapest", "fastest", "best", "split", "custom")
NEEDS = ("", "tools", "schema", "logprobs")
NAME_CELLS = 22


def model_rows(models: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Cell, ...]]:
    """A row for each place that a model answers from."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for model in models:
        for place in model["places"]:
            figures = place["figures"]
            rows[f"{model['platform']} {model['id']} {place['instance']}"] = (
                format.shorten(model["id"], NAME_CELLS),
                Content.styled(
                    say(f"route.{model['route']}"),
                    "$text-success" if model["route"] == "local" else "$secondary",
                ),
                _health(place),
                f"{figures['answers']:,}",
                _errors(figures["errors"]),
                format.seconds(figures["first_token_p50"]),
                format.seconds(figures["total_p50"]),
                _money(figures["cost"]) if model["route"] == "online" else "–",
            )
    return rows


def about(model: Mapping[str, Any], instance: str) -> Content:
    """What the operator's table has no room for."""
    place = next(each for each in model["places"] if each["instance"] == instance)
    figures = place["figures"]
    errors = ", ".join(f"{name} {count}" for name, count in figures["errors"].items())
    lines = [
        ("routing.platform", f"{model['platform']} · {instance}"),
        ("routing.quality", str(model["quality"])),
        (
            "routing.price",
            say("routing.prices", sent=f"{model['price_in']:g}", got=f"{model['price_out']:g}"),
        ),
        ("routing.under_way", say("routing.counts", running=place["running"], waiting=model["waiting"])),
        ("routing.first_token", _pair(figures["first_token_p50"], figures["first_token_p99"])),
        ("routing.whole", _pair(figures["total_p50"], figures["total_p99"])),
        ("routing.tokens", f"{figures['prompt_tokens']:,} → {figures['completion_tokens']:,}"),
        ("routing.errors", errors or "–"),
    ]
    return Content("\n").join(
        Content.assemble((format.fit(say(label), 16), "$foreground-muted"), text) for label, text in lines
    )


def arm_rows(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Cell, ...]]:
    """The results of each arm of an A/B split."""
    return {
        name: (
            name,
            f"{figures['answers']:,}",
            _errors(figures["errors"]),
            format.seconds(figures["first_token_p50"]),
            format.seconds(figures["total_p50"]),
            _money(figures["cost"]),
        )
        for name, figures in arms.items()
    }


def state(routing: Mapping[str, Any]) -> Content:
    """In one line: the mode, the policy, and whether anything tried to leave."""
    sealed = say("routing.sealed" if routing["is_sealed"] else "routing.not_sealed")
    refused = say("routing.refused", count=routing["refused_egress"])
    return Content.assemble(
        (f"{say('routing.mode')} ", "$foreground-muted"),
        (say(f"routing_mode.{routing['mode']}"), "bold"),
        (f"   {say('routing.policy')} ", "$foreground-muted"),
        (routing["policy"], "bold"),
        (f"   {sealed} · {refused}", "$foreground-muted"),
    )


def question(bases: Sequence[str]) -> tuple[Field, ...]:
    """What a dry run asks for."""
    return (
        Field("model", say("routing.model"), "auto"),
        Field("task", say("routing.task"), "chat", choices=tuple((task, task) for task in TASKS)),
        Field(
            "policy",
            say("routing.policy"),
            choices=tuple((policy, policy or say("routing.as_set")) for policy in POLICIES),
        ),
        Field(
            "knowledge",
            say("routing.base"),
            choices=(("", say("routing.no_base")), *((base, base) for base in bases)),
        ),
        Field(
            "needs",
            say("routing.needs"),
            choices=tuple((need, need or say("routing.no_needs")) for need in NEEDS),
        ),
        Field("key", say("routing.key"), hint=say("routing.key_hint")),
        Field("prompt", say("routing.prompt"), hint=say("routing.prompt_hint")),
    )


def asked(values: Mapping[str, str]) -> dict[str, Any]:
    """The dry run's body, as the API takes it."""
    body: dict[str, Any] = {key: value for key, value in values.items() if value and key != "needs"}
    return body | ({"needs": [values["needs"]]} if values["needs"] else {})


def decision(found: Mapping[str, Any]) -> Content:
    """Who would answer, in which order and why; and who would not."""
    return Content("\n").join(_decision(found))


def _decision(found: Mapping[str, Any]) -> Iterator[Content]:
    yield Content.assemble(
        (f"{found['model']} · {found['task']} ", "bold"),
        (
            say("routing.by_policy", policy=found["policy"], reason=found["policy_reason"]),
            "$foreground-muted",
        ),
    )
    for number, each in enumerate(found["candidates"], 1):
        route, platform = each["route"], each["platform"]
        yield Content.assemble(
            (f" {number}. ", "$foreground-muted"),
            (each["model"], "bold $text-success" if number == 1 else "bold"),
            (f"  {say(f'route.{route}')}, {platform}", "$foreground-muted"),
            f"  {each['reason']}",
        )
    if not found["candidates"]:
        yield Content.styled(f" ✗ {say('routing.nobody')}", "$text-error")
    for each in found["rejected"]:
        yield Content.assemble(
            (" –  ", "$foreground-muted"),
            (each["model"], "$foreground-muted"),
            (f"  {each['reason']}", "$foreground-muted"),
        )


def _health(place: Mapping[str, Any]) -> Content:
    mark, style = BREAKERS[place["breaker"]]
    text = say(f"breaker.{place['breaker']}", time=format.seconds(place["down_for"]))
    return Content.styled(f"{mark} {text}", style)


def _errors(errors: Mapping[str, int]) -> Cell:
    count = sum(errors.values())
    return Content.styled(f"{count:,}", "$text-error") if count else "–"


def _pair(middle: float | None, slow: float | None) -> str:
    return say("routing.pair", middle=format.seconds(middle), slow=format.seconds(slow))


def _money(cost: float) -> str:
    return f"{cost:.4f}" if 0 < cost < 1 else f"{cost:,.2f}"
