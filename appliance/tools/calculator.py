"""Arithmetic in a closed world: numbers, operators, a few functions; every step bounded. Pure.

An expression is read by Python's own parser and then evaluated node by node from the tables below; a node
that is in none of them is refused, so no name, attribute, call or text of Python's is ever reached.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from appliance.tools.tool import ToolFact, ToolFailure

MAX_LENGTH = 1000  # characters of an expression
MAX_BITS = 16_384  # of a whole number on the way
MAX_FACTORIAL = 1000

Number = int | float

CALCULATOR = ToolFact(
    name="calculator",
    description=(
        "Evaluates an arithmetic expression exactly, for example (17.5 * 3 + 2 ** 10) / 4 or sqrt(2). "
        "Operators: + - * / // % ** and parentheses. Functions: abs, round, floor, ceil, sqrt, exp, log, "
        "log2, log10, sin, cos, tan, asin, acos, atan, factorial, gcd, min, max. Constants: pi, e."
    ),
    parameters={
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "the expression, in plain numbers without units"}
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
)


def calculate(expression: str) -> str:
    """The value as text. Raises ToolFailure that says what is wrong with the expression."""
    if len(expression) > MAX_LENGTH:
        raise ToolFailure(f"the expression has {len(expression)} characters; the limit is {MAX_LENGTH}")
    try:
        return _text(_value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body))
    except ToolFailure:
        raise
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ToolFailure("this is no arithmetic expression") from error
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ToolFailure(f"this cannot be calculated: {error}") from error


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _bounded(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        if function is None:
            raise ToolFailure(f"there is no function {node.func.id!r}; there are: {', '.join(_FUNCTIONS)}")
        return _bounded(function(*map(_value, node.args)))
    raise ToolFailure(f"only numbers, operators and functions are read here, not {ast.unparse(node)[:60]!r}")


def _bounded(value: Any) -> Number:
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise ToolFailure(f"a number on the way has more than {MAX_BITS} bits")
    if type(value) not in (int, float):
        raise ToolFailure("the result is not a real number")
    return value  # type: ignore[no-any-return]


def _power(base: Number, exponent: Number) -> Number:
    if type(base) is int and type(exponent) is int and base.bit_length() * abs(exponent) > MAX_BITS:
        raise ToolFailure(f"the power has more than {MAX_BITS} bits")
    return _bounded(base**exponent)


def _factorial(value: Number) -> Number:
    if not (isinstance(value, int) and 0 <= value <= MAX_FACTORIAL):
        raise ToolFailure(f"factorial takes whole numbers from 0 to {MAX_FACTORIAL}")
    return math.factorial(value)


def _round(value: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > 300:
        raise ToolFailure("round takes a whole number of digits, at most 300")
    return round(value, digits) if digits else round(value)


def _text(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise ToolFailure("the result is not a finite number")
    return f"{value:.15g}"  # what is exact in decimals is shown so: 0.1 + 0.2 is 0.3


_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "round": _round,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "factorial": _factorial,
    "gcd": math.gcd,
    "min": min,
    "max": max,
}
