"""docs/grafana.json: every figure that it asks for is one that a server has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from appliance.telemetry.metrics import Metrics

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text("utf-8"))
WORDS = re.compile(r"[a-z_]{4,}")
FUNCTIONS = {"rate", "increase", "histogram_quantile", "clamp_min", "sum", "max"}


def exposed() -> set[str]:
    """The names of all series, as Prometheus has them."""
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "gauge": ("",),
    }
    return {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in suffixes.get(family.type, ())
    }


def asked() -> set[str]:
    """Names in the expressions, without labels, durations and functions."""
    found: set[str] = set()
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", target["expr"])
            found |= set(WORDS.findall(bare)) - FUNCTIONS
    return found


def test_every_figure_of_the_dashboard_exists() -> None:
    assert asked() - exposed() == set()
    assert len(asked()) > 20


def test_what_operators_know_by_name_is_on_it() -> None:
    wanted = {
        "model_inference_latency_seconds_bucket",
        "knowledge_cache_hit_rate",
        "concurrent_session_count",
    }
    assert wanted <= asked()


def test_panels_are_distinct_and_have_room() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
