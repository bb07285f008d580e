"""`response_format`, `regex` and `grammar`: what a request says about its answer's form, as one constraint.

Whether a schema can be enforced is known where it is compiled, in the worker; this module only reads.
"""

from __future__ import annotations

from appliance.api.schemas import ResponseFormat, SamplingFields
from appliance.errors import InvalidValue, MissingParameter
from appliance.records import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint


def constraint_of(
    request: SamplingFields, response_format: ResponseFormat | None = None
) -> Constraint | None:
    """The request's constraint, if it has one.

    Raises InvalidValue when it has two, or one that a stop string would cut short.
    """
    found: dict[str, Constraint] = {}
    if response_format is not None and response_format.type != "text":
        found["response_format"] = _json(response_format)
    if request.regex is not None:
        found["regex"] = RegexConstraint(pattern=request.regex)
    if request.grammar is not None:
        is_gbnf = "::=" in request.grammar
        found["grammar"] = GrammarConstraint(text=request.grammar, syntax="gbnf" if is_gbnf else "lark")
    if len(found) > 1:
        names = list(found)
        raise InvalidValue(f"{names[0]} and {names[1]} cannot both be held to", param=names[1])
    if found and request.stop:
        raise InvalidValue(
            f"stop could cut an answer that must keep to {next(iter(found))}; leave one of them out",
            param="stop",
        )
    return next(iter(found.values()), None)


def _json(response_format: ResponseFormat) -> JsonConstraint:
    if response_format.type == "json_object":
        return JsonConstraint(schema=None)
    if response_format.json_schema is None:
        raise MissingParameter(
            "the parameter 'response_format.json_schema' is required for this type",
            param="response_format.json_schema",
        )
    return JsonConstraint(schema=response_format.json_schema.schema)
