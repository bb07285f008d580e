"""The figures that an operator's Prometheus reads. One instance per server, no global registry.

Names follow what operators of model servers know. This module counts; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from appliance.records import WorkerStats
from appliance.telemetry.models import ModelFigures

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hearth_http_requests", "Requests answered", ["path", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "hearth_http_request_seconds",
            "From the request's arrival to the last byte of its answer",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._request_series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.open_requests = Gauge(
            "concurrent_session_count", "Requests being answered now", registry=self.registry
        )
        self.sessions = 0  # the same, for our own eyes
        self.models = ModelFigures(self.registry, SECONDS)
        self.worker_up = Gauge(
            "hearth_worker_up", "1 when the worker is ready", ["worker"], registry=self.registry
        )
        self.worker_restarts = Gauge(
            "hearth_worker_restarts",
            "How often the worker has been started again",
            ["worker"],
            registry=self.registry,
        )
        self.knowledge_cache_hit_rate = Gauge(
            "knowledge_cache_hit_rate",
            "Share of the texts to embed, since the start, whose vectors were known already",
            registry=self.registry,
        )
        self.answers = Counter(
            "hearth_answers", "Answers of models, by where they came from", ["route"], registry=self.registry
        )
        self.sensitive = Counter(
            "hearth_sensitive_requests",
            "Requests with personal data or secrets, by kind and by what was done",
            ["kind", "action"],
            registry=self.registry,
        )
        self.egress_refused = Gauge(
            "hearth_egress_refused",
            "Connections out of this machine that offline mode has refused since the start",
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "hearth_event_loop_lag_seconds",
            "How late the event loop was at the last sample",
            registry=self.registry,
        )
        self.loop_tasks = Gauge("hearth_event_loop_tasks", "Tasks of the event loop", registry=self.registry)
        self._audit_gauges = {
            name: Gauge(f"hearth_audit_{name}", text, registry=self.registry)
            for name, text in (
                ("newest", "Number of the audit log's newest line"),
                (
                    "waiting",
                    "Requests under way that will have an audit line, and lines that are being written",
                ),
                ("lost", "Audit lines since the start that could not be written"),
                ("failing", "1 while the audit log cannot be written"),
            )
        }
        ProcessCollector(registry=self.registry)
        self._worker_gauges = {
            name: Gauge(f"hearth_worker_{name}", text, ["worker"], registry=self.registry)
            for name, text in (
                ("running", "Requests computing now"),
                ("waiting", "Requests waiting for a slot"),
                ("slots", "Requests that can compute at the same time"),
                ("cells", "Tokens that the KV cache can hold"),
                ("cells_used", "Tokens that the KV cache holds, kept prefixes included"),
                ("steps", "Batches computed since the worker's start"),
                ("preemptions", "Generations set back because the KV cache was full"),
                ("prompt_tokens", "Prompt tokens of all requests since the worker's start"),
                ("cached_tokens", "Prompt tokens of these that were not computed again"),
                ("stored_bytes", "Beginnings of prompts in memory, beside the KV cache"),
                ("stored_disk_bytes", "Beginnings of prompts on disk"),
            )
        }

    def count_session(self, change: int) -> None:
        """A request begins or ends."""
        self.sessions += change
        self.open_requests.set(self.sessions)

    def count_request(self, path: str, method: str, status: int, seconds: float) -> None:
        """One answered request; `path` is one of ours."""
        series = self._request_series.get((path, method, status))
        if series is None:
            series = self.requests.labels(path, method, str(status)), self.request_seconds.labels(path)
            self._request_series[path, method, status] = series
        series[0].inc()
        series[1].observe(seconds)

    def record_worker(self, worker: str, stats: WorkerStats) -> None:
        for name, gauge in self._worker_gauges.items():
            gauge.labels(worker).set(getattr(stats, name))

    def record_audit(self, *, newest: int, waiting: int, lost: int, failing: bool) -> None:
        values = {"newest": newest, "waiting": waiting, "lost": lost, "failing": int(failing)}
        for name, value in values.items():
            self._audit_gauges[name].set(value)

    def note_request(self, routes: Iterable[str], kinds: Iterable[str], action: str) -> None:
        """What a request that is over was answered by, and what was found in it."""
        for route in routes:
            self.answers.labels(route).inc()
        for kind in kinds:
            self.sensitive.labels(kind, action or "none").inc()

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)

    def known_names(self) -> Sequence[str]:
        """Every metric family's name, for the documentation's test."""
        return sorted(family.name for family in self.registry.collect())
