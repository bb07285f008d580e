"""A jinja environment in which a stranger's template can neither escape nor exhaust the machine.

Jinja's immutable sandbox keeps a template away from Python's internals. This module adds what it lacks:
allow-lists of filters and methods that all ask a `Meter`, and for the rest the rewrite of
`metered_syntax`. It knows no chats.

Where one native call could build far more than it is given (`*`, `replace`, `join` …), the meter is asked
before; elsewhere a step at most doubles what there is, and it is asked after.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import filters, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from appliance.llm.meter import MAX_ROUNDS, REFERENCE, LimitReached, Meter
from appliance.llm.metered_syntax import Generation, rewrite

MAX_INTEGER = 2**64
MAX_INDENT = 8

LIST_FILTERS = frozenset(
    "abs count d default dictsort first float int items last length list map max min reject rejectattr "
    "reverse select selectattr sort unique".split()
)
UNWALKED = frozenset("abs count d default first float int last length".split())  # cost no round per element
METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        "capitalize count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric isspace "
        "isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition "
        "rsplit rstrip split splitlines startswith strip title upper".split()
    ),
    dict: frozenset("get items keys values".split()),
    list: frozenset("count index".split()),
    tuple: frozenset("count index".split()),
}


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment. `meter.begin()` comes before each rendering."""

    intercepted_binops = frozenset(["+", "*", "**", "%", "/", "//", "-"])

    def __init__(self, meter: Meter, names: dict[str, Any]) -> None:
        self.meter = meter
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            extensions=[Generation, loopcontrols],
            finalize=self.text,
            optimized=False,
        )
        texts = _TextFilters(self)
        lists: dict[str, Any] = {name: self.filters[name] for name in LIST_FILTERS}
        self.filters = {
            name: self._metered(call, is_walking=name not in UNWALKED) for name, call in lists.items()
        }
        self.filters |= {name: self._metered(call, is_walking=False) for name, call in texts.all().items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: self._metered(call, is_walking=False) for name, call in tests.items()}
        self.globals = {"range": self._range, "dict": dict, "namespace": Namespace, **names}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        rewrite(template)
        return template

    # What passes the meter

    def measured(self, value: Any) -> Any:
        """`value` itself, once the meter knows of it."""
        if isinstance(value, str):
            self.meter.build(len(value))
        elif isinstance(value, (list, tuple, dict)):
            self.meter.weigh(value)
            self.meter.build(REFERENCE * len(value))
        elif isinstance(value, GeneratorType):
            return self._counted(value)
        else:
            self.meter.tick(0)
        return value

    @property
    def loop_round(self) -> str:
        """Counts one; the empty text, so that it can stand in an output or before an `or`."""
        self.meter.tick()
        return ""

    @property
    def moment(self) -> str:
        """Looks at the clock only; the empty text."""
        self.meter.tick(0)
        return ""

    def text(self, value: Any) -> str:
        """What `{{ value }}` prints."""
        if isinstance(value, str):
            text = str(value)
        else:
            self.meter.reserve(self.meter.weigh(value))
            text = str(value)
        self.meter.build(len(text))
        return text

    def joined(self, *values: Any) -> str:
        """The `~` operator."""
        return "".join(map(self.text, values))

    def concat(self, pieces: Iterable[str]) -> str:
        """What jinja calls to make one text of a macro's, block's or `set` block's output."""
        parts = list(pieces)
        self.meter.build(sum(map(len, parts)))
        return "".join(parts)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, (str, bytes))):
            raise LimitReached(f"uses the operator {operator}, which is not allowed here")
        for number in (left, right):
            if isinstance(number, int) and abs(number) > MAX_INTEGER:
                raise LimitReached("computes with numbers over 64 bits")
        if operator == "*":
            for sized, count in ((left, right), (right, left)):
                if isinstance(sized, (str, list, tuple)) and isinstance(count, int):
                    self.meter.reserve(
                        len(sized) * max(count, 0) * (1 if isinstance(sized, str) else REFERENCE)
                    )
        return self.measured(super().call_binop(context, operator, left, right))

    def call(self, context: jinja2.runtime.Context, called: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str):
            args = self._checked(owner, called.__name__, args, kwargs)
        return self.measured(super().call(context, called, *args, **kwargs))

    def _checked(
        self, owner: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...]:
        """The arguments of a string method whose result may be far longer than the string."""
        match method:
            case "replace":
                self.reserve_replacement(owner, *map(str, args[:2]))
            case "join":
                parts = list(args[0])
                self.meter.reserve(self.meter.weigh(parts) + len(owner) * len(parts))
                return (parts,)
            case "split" | "rsplit" | "splitlines":
                word = next(iter((*args, *kwargs.values())), None)
                if isinstance(word, str) and word:
                    self.meter.tick(owner.count(word))
                else:
                    self.meter.reserve(REFERENCE * len(owner))
        return args

    def reserve_replacement(self, text: str, old: str, new: str) -> None:
        self.meter.reserve(len(text) + text.count(old) * len(new))

    def _metered(self, call: Callable[..., Any], *, is_walking: bool) -> Callable[..., Any]:
        """The filter or test `call`, passing the meter before and after."""
        first = 1 if hasattr(call, "jinja_pass_arg") else 0

        @functools.wraps(call)
        def metered(*args: Any, **kwargs: Any) -> Any:
            value = args[first] if len(args) > first else None
            if is_walking and isinstance(value, (str, list, tuple, dict, range)):
                self.meter.tick(len(value))
            return self.measured(call(*args, **kwargs))

        return metered

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.meter.tick()
            yield item

    def _range(self, *bounds: int) -> range:
        wanted = range(*bounds)
        if len(wanted) > MAX_ROUNDS:
            raise LimitReached(f"asks for a range of {len(wanted)}")
        return wanted

    # What may be touched

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        kind = next((kind for kind in METHODS if isinstance(obj, kind)), None)
        if kind is not None:
            return attr in METHODS[kind]
        if type(obj).__module__ == "builtins":
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`format` is refused like any method that is not listed: a width in its text builds gigabytes."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} is not allowed here")


class _TextFilters:
    """The filters that make text, each asking the meter before it builds."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self._meter, self._text = sandbox, sandbox.meter, sandbox.text

    def all(self) -> dict[str, Callable[..., Any]]:
        return {
            "capitalize": lambda value: self._text(value).capitalize(),
            "indent": self.indent,
            "join": self.join,
            "lower": lambda value: self._text(value).lower(),
            "replace": self.replace,
            "safe": self._text,
            "string": self._text,
            "title": self.title,
            "tojson": self.to_json,
            "trim": lambda value, chars=None: self._text(value).strip(chars),
            "upper": lambda value: self._text(value).upper(),
        }

    def indent(self, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        text = self._text(value)
        margin = width if isinstance(width, int) else len(width)
        self._meter.reserve(len(text) + (len(text.splitlines()) + 1) * margin)
        return filters.do_indent(text, width, first, blank)

    def join(self, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = map(filters.make_attrgetter(self._sandbox, attribute), value)
        parts = [self._text(part) for part in value]
        word = self._text(d)
        self._meter.reserve(len(word) * len(parts))
        return word.join(parts)

    def replace(self, value: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = self._text(value), self._text(old), self._text(new)
        self._sandbox.reserve_replacement(text, old, new)
        return text.replace(old, new, -1 if count is None else count)

    def title(self, value: Any) -> str:
        text = self._text(value)
        self._meter.tick(len(text))
        return filters.do_title(text)

    def to_json(
        self,
        value: Any,
        indent: int | None = None,
        ensure_ascii: bool = False,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON without HTML escapes, as the Hugging Face dialect has it."""
        self._meter.weigh(value)
        encoder = json.JSONEncoder(
            indent=None if indent is None else min(int(indent), MAX_INDENT),
            ensure_ascii=ensure_ascii,
            separators=separators,
            sort_keys=sort_keys,
        )
        pieces = []
        for piece in encoder.iterencode(value):
            self._meter.build(len(piece))
            pieces.append(piece)
        return "".join(pieces)
