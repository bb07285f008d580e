"""What the router tells of every attempt and answer, told to all who count."""

from __future__ import annotations

from typing import Protocol

from appliance.records import Timings, Usage
from appliance.telemetry.history import Recorder
from appliance.telemetry.models import Attempt, Model, ModelFigures, Route


class AnyRoute(Route, Protocol):
    @property
    def is_local(self) -> bool: ...


class Observers:
    """The figures of each model, and the server over time."""

    def __init__(self, models: ModelFigures, recorder: Recorder) -> None:
        self._models, self._recorder = models, recorder

    def note_attempt(self, model: Model, attempt: Attempt) -> None:
        self._models.note_attempt(model, attempt)

    def note_answer(self, model: Model, route: AnyRoute, usage: Usage, timings: Timings) -> None:
        self._models.note_answer(model, route, usage, timings)
        self._recorder.note_answer(route, usage, timings)
