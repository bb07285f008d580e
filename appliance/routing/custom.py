"""The operator's own policy: a Python file, or `module:function` of an installed package. Loaded at a
reload only.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from appliance.errors import ConfigError
from appliance.routing.decision import Facts
from appliance.routing.policy import CustomPolicy, States
from appliance.routing.registry import Model

FUNCTION = "order"  # the function's name in a file
MAX_FILE_BYTES = 1024 * 1024


def load_policy(reference: str, directory: Path) -> CustomPolicy:
    """The function that `routing.custom` names: `order(facts, models, states) -> [(model, reason), …]`.

    A file is relative to `directory`. A function that fails later leaves the request to the local models. It
    cannot get round the checks. Raises ConfigError when there is no such function.
    """
    if not reference:
        raise ConfigError('the policy "custom" needs routing.custom: a Python file or module:function')
    try:
        if reference.endswith(".py"):
            file = directory / reference
            if file.stat().st_size > MAX_FILE_BYTES:
                raise ConfigError(f"routing.custom: {file} is larger than {MAX_FILE_BYTES} bytes")
            names: dict[str, Any] = {"__name__": "hearth_policy", "__file__": str(file)}
            exec(compile(file.read_bytes(), str(file), "exec"), names)  # noqa: S102  the operator's own file
            function = names.get(FUNCTION)
        else:
            module, _, name = reference.partition(":")
            function = getattr(importlib.import_module(module), name or FUNCTION, None)
    except ConfigError:
        raise
    except Exception as error:  # it is the operator's program: it may raise anything
        raise ConfigError(f"routing.custom = {reference!r} cannot be loaded: {error}") from error
    if not callable(function):
        raise ConfigError(f"routing.custom = {reference!r} has no function {FUNCTION}(facts, models, states)")
    return _guarded(cast(CustomPolicy, function), reference)


def _guarded(function: CustomPolicy, reference: str) -> CustomPolicy:
    def order(facts: Facts, models: Sequence[Model], states: States) -> Sequence[tuple[Model, str]]:
        try:
            return [(model, str(reason)) for model, reason in function(facts, models, states)]
        except Exception as error:  # the same
            reason = f"{reference} failed ({type(error).__name__}), so local models only"
            return [(model, reason) for model in models if model.is_local]

    return order
