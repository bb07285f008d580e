"""`hearth route`: who would answer a request and why, and how the models that may answer are doing."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from appliance.client import Client


@click.group()
def route() -> None:
    """Who answers: this machine's models or online ones, and why."""


@route.command()
@click.argument("model", default="auto")
@click.option("--policy", default="", help="As the header x-hearth-policy.")
@click.option("--task", default="chat", help="chat, code, summarise, embed or rerank.")
@click.option("--key", default=None, help="Name of the API key; default: yours.")
@click.option("--knowledge", default="", help="The knowledge base that the request is about.")
@click.option("--conversation", default="", help="What the policy split sticks to.")
@click.option("--prompt", default="", help="The request's text; only its length counts.")
@click.option("--max-tokens", default=0, type=click.IntRange(0), help="Longest answer, in tokens.")
@click.option("--needs", multiple=True, type=click.Choice(["tools", "schema", "logprobs"]))
def explain(model: str, **fields: Any) -> None:
    """Show who would answer a request for MODEL now, in which order, and why others would not.

    A dry run: the running server decides, and asks nobody.
    """
    body = {"model": model, **{name.replace("-", "_"): value for name, value in fields.items()}}
    with Client() as client:
        found = client.post("/admin/v1/routing/explain", body)
    click.echo(f"{found['model']}: policy {found['policy']} ({found['policy_reason']})")
    for number, chosen in enumerate(found["candidates"], 1):
        click.echo(f"  {number}. {chosen['model']} ({chosen['platform']}): {chosen['reason']}")
    for left in found["rejected"]:
        click.echo(f"  not {left['model']} ({left['platform']}): {left['reason']}")
    if not found["candidates"]:
        click.echo("  nobody answers")


@route.command()
def status() -> None:
    """The models that may answer: their places, circuit breakers, speed and cost."""
    with Client() as client:
        found = client.get("/admin/v1/routing")
    click.echo(f"mode {found['mode']}, policy {found['policy']}")
    table = Table(
        "model",
        "platform",
        "place",
        "breaker",
        "running",
        "answers",
        "errors",
        "first token",
        "total",
        "cost",
    )
    for model in found["models"]:
        for place in model["places"]:
            figures = place["figures"]
            errors = ", ".join(f"{kind} {count}" for kind, count in figures["errors"].items())
            table.add_row(
                model["id"],
                model["platform"],
                place["instance"],
                place["breaker"],
                str(place["running"]),
                str(figures["answers"]),
                errors or "0",
                _seconds(figures["first_token_p50"]),
                _seconds(figures["total_p50"]),
                f"{figures['cost']:.4f}",
            )
    Console(width=None if Console().is_terminal else 160).print(table)
    for arm, figures in found["arms"].items():
        click.echo(
            f"arm {arm}: {figures['answers']} answers, {sum(figures['errors'].values())} errors, first token "
            f"{_seconds(figures['first_token_p50'])}, total {_seconds(figures['total_p50'])}, cost "
            f"{figures['cost']:.4f}"
        )


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"
