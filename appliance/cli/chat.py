"""`hearth chat` and `hearth ask`: a conversation with a running server, in the terminal."""

from __future__ import annotations

import sys
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

    citations: list[dict[str, Any]] = []
    messages = [*_opening(system), {"role": "user", "content": text}]
    with KnowledgeClient(url) as client:
        name = model or _first_chat_model(client)
        for said in client.stream_cited(name, messages, base, **options):
            if isinstance(said, str):
                print(said, end="", flush=True)
            else:
                citations.append(said)
    print(flush=True)
    print_sources(citations)


def _print_answer(client: Client, model: str, messages: list[dict[str, str]], options: dict[str, Any]) -> str:
    """Prints as it comes; Ctrl-C stops the answer, which frees the model at once."""
    parts: list[str] = []
    stream = client.stream_chat(model, messages, **options)
    try:
        for text in stream:
            parts.append(text)
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        print(" … stopped", end="", file=sys.stderr)
    finally:
        stream.close()
        if parts:
            print(flush=True)
    return "".join(parts)


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
