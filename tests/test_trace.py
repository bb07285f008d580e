"""W3C Trace Context: which headers go on, which begin a trace anew."""

from __future__ import annotations

import re

import pytest

from appliance import trace

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_goes_on_in_the_trace_that_it_names() -> None:
    context = trace.begin(GIVEN, "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")
    assert (context.trace, context.parent, context.flags) == (TRACE, "b7ad6b7169203331", "01")
    assert context.state == "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"
    assert context.span != context.parent
    assert context.traceparent() == f"00-{TRACE}-{context.span}-01"
    assert context.traceparent("0123456789abcdef") == f"00-{TRACE}-0123456789abcdef-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        GIVEN.upper(),
        "ff" + GIVEN[2:],
        GIVEN + "-more",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        GIVEN[:-1],
        GIVEN.replace("-", "_"),
        GIVEN + "\r\nx: y",
    ],
)
def test_a_malformed_header_begins_a_trace(header: str) -> None:
    context = trace.begin(header, "a=b")
    assert re.fullmatch("[0-9a-f]{32}", context.trace)
    assert context.trace != TRACE
    assert (context.parent, context.state) == ("", ""), "the state belongs to the header"


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert trace.begin("01" + GIVEN[2:] + "-and-more").trace == TRACE


@pytest.mark.parametrize("state", ["a=\x01", "=b", "x" * 600, ",".join(f"k{n}=v" for n in range(33)), "A=b"])
def test_a_state_that_cannot_be_read_is_not_passed_on(state: str) -> None:
    assert trace.begin(GIVEN, state).state == ""
