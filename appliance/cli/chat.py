"""`hearth chat` and `hearth ask`: a conversation with a running server, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import Any

import click

from appliance.cli.options import URL
from appliance.client import Client
from appliance.errors import HearthError, Unavailable

MODEL = click.option("--model", metavar="NAME", help="The model. Default: the first chat model served.")
SYSTEM = click.option("--system", metavar="TEXT", help="Instructions that precede the conversation.")
TEMPERATURE = click.option("--temperature", type=click.FloatRange(0, 2), help="0 is sober, 2 is wild.")
MAX_TOKENS = click.option("--max-tokens", type=click.IntRange(1), help="Longest answer, in tokens.")


@click.command()
@URL
@MODEL
@SYSTEM
@TEMPERATURE
@MAX_TOKENS
def chat(
    url: str | None,
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
) -> None:
    """Talk to a model. Answers appear as they are made.

    Ctrl-C stops an answer, Ctrl-D or /quit ends the conversation, /new starts a fresh one.
    """
    with Client(url) as client:
        name = model or _first_chat_model(client)
        print(f"talking to {name}; /new starts afresh, /quit or Ctrl-D ends", file=sys.stderr)
        messages = _opening(system)
        while (line := _read_line()) is not None:
            if line in ("/quit", "/exit"):
                return
            if line == "/new":
                messages = _opening(system)
                continue
            if not line.strip():
                continue
            messages.append({"role": "user", "content": line})
            try:
                answer = _print_answer(client, name, messages, _options(temperature, max_tokens))
            except HearthError as error:
                messages.pop()
                print(f"hearth: {error.message}", file=sys.stderr)
                continue
            messages.append({"role": "assistant", "content": answer})


@click.command()
@click.argument("question", nargs=-1, required=True)
@URL
@MODEL
@SYSTEM
@TEMPERATURE
@MAX_TOKENS
@click.option("--kb", "base", metavar="NAME", help="Answer from this knowledge base, and list the sources.")
def ask(
    question: tuple[str, ...],
    url: str | None,
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    base: str | None,
) -> None:
    """Ask QUESTION and print the answer.

    With `-` the question is read from standard input, so that files can be piped in:
    `hearth ask - < report.txt`.
    """
    text = sys.stdin.read() if question == ("-",) else " ".join(question)
    if base is not None:
        _ask_base(url, base, text, model, system, _options(temperature, max_tokens))
        return
    messages = [*_opening(system), {"role": "user", "content": text}]
    with Client(url) as client:
        _print_answer(client, model or _first_chat_model(client), messages, _options(temperature, max_tokens))


def _ask_base(
    url: str | None, base: str, text: str, model: str | None, system: str | None, options: dict[str, Any]
) -> None:
    """The answer as it comes, then where it was found."""
    from appliance.cli.kb import print_sources
    from appliance.client.knowledge import KnowledgeClient

    messages = [*_opening(system), {"role": "user", "content": text}]
    warnings: list[str] = []
    with KnowledgeClient(url) as client:
        name = model or _first_chat_model(client)
        said = client.stream_cited(name, messages, base, note=warnings.append, **options)
        print_sources([each for each in _print_said(said, warnings) if not isinstance(each, str)])


def _print_answer(client: Client, model: str, messages: list[dict[str, str]], options: dict[str, Any]) -> str:
    warnings: list[str] = []
    said = client.stream_chat(model, messages, note=warnings.append, **options)
    return "".join(each for each in _print_said(said, warnings) if isinstance(each, str))


def _print_said(answer: Iterator[str | dict[str, Any]], warnings: list[str]) -> list[str | dict[str, Any]]:
    """Prints words as they come, then what the server warned of; Ctrl-C stops the answer, which frees the
    model at once."""
    whole: list[str | dict[str, Any]] = []
    try:
        for said in answer:
            whole.append(said)
            if isinstance(said, str):
                print(said, end="", flush=True)
    except KeyboardInterrupt:
        print(" … stopped", end="", file=sys.stderr)
    finally:
        if isinstance(answer, Generator):
            answer.close()
        if whole:
            print(flush=True)
        for warning in warnings:
            print(f"hearth: {warning}", file=sys.stderr)
    return whole


def _first_chat_model(client: Client) -> str:
    names = client.chat_models()
    if not names:
        raise Unavailable(f"{client.url} serves no chat model")
    return names[0]


def _opening(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system else []


def _options(temperature: float | None, max_tokens: int | None) -> dict[str, Any]:
    given = {"temperature": temperature, "max_completion_tokens": max_tokens}
    return {name: value for name, value in given.items() if value is not None}


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None
