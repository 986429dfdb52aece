from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tools.docs import declared
from worker.observe import metrics

SOURCE = Path(metrics.__file__)
WORKER = SOURCE.parent.parent
NAMES = {name: each for name, each in vars(metrics).items() if each in declared()}


def test_every_metric_is_declared_once_and_collected() -> None:
    written = re.findall(r'"(sessionwatch_\w+)"', SOURCE.read_text(encoding="utf-8"))
    assert written
    assert [name for name, count in Counter(written).items() if count > 1] == []
    assert len(written) == len(declared())
    assert {family.name for family in metrics.REGISTRY.collect()} == {name.removesuffix("_total") for name in written}


@pytest.mark.parametrize("name", NAMES)
def test_metric_says_what_it_is_by_the_rules_of_prometheus(name: Any) -> None:
    metric = NAMES[name]
    family = next(iter(metric.describe()))
    assert family.documentation.endswith(".")
    assert len(family.documentation) > 10
    assert re.fullmatch(r"sessionwatch_[a-z_]+", family.name)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|kib)(_|$)", family.name), "base units only"
    if family.type == "gauge":
        assert not family.name.endswith("_total")
    assert not {"tenant", "tenant_id", "user", "user_id", "session", "ip"} & set(metric._labelnames)


@pytest.mark.parametrize("name", NAMES)
def test_metric_is_used(name: Any) -> None:
    used = re.compile(rf"\b{name}\b")
    elsewhere = [
        path
        for path in WORKER.rglob("*.py")
        if path not in (SOURCE, WORKER / "docs.py") and used.search(path.read_text(encoding="utf-8"))
    ]
    mapped = len(used.findall(SOURCE.read_text(encoding="utf-8"))) > 1
    assert elsewhere or mapped, f"nothing ever moves {name}"


def samples() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_counters_of_a_batch_become_metrics() -> None:
    before = samples()
    metrics.observe_counters(
        {
            ("records", "auth.sessions"): 7,
            ("accepted",): 3,
            ("rejected", "invalid-json"): 1,
            ("ignored", "tombstone"): 1,
            ("forwarded",): 1,
            ("deduplicated",): 1,
            ("late",): 1,
            ("duplicate",): 1,
            ("evicted",): 2,
            ("expired",): 4,
            ("finding", "ip-change", "low"): 5,
            ("unevaluated", "impossible-travel", "unknown-place"): 6,
        }
    )
    after = samples()
    risen = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    plain = frozenset[tuple[str, str]]()
    assert risen == {
        ("sessionwatch_records_in_total", frozenset({("topic", "auth.sessions")})): 7,
        ("sessionwatch_events_accepted_total", plain): 3,
        ("sessionwatch_rejected_total", frozenset({("reason", "invalid-json")})): 1,
        ("sessionwatch_ignored_total", frozenset({("reason", "tombstone")})): 1,
        ("sessionwatch_forwarded_total", plain): 1,
        ("sessionwatch_records_deduplicated_total", plain): 1,
        ("sessionwatch_late_total", plain): 1,
        ("sessionwatch_duplicates_total", plain): 1,
        ("sessionwatch_evicted_total", plain): 2,
        ("sessionwatch_expired_total", plain): 4,
        (
            "sessionwatch_findings_total",
            frozenset({("detection", "ip-change"), ("severity", "low")}),
        ): 5,
        (
            "sessionwatch_unevaluated_total",
            frozenset({("detection", "impossible-travel"), ("reason", "unknown-place")}),
        ): 6,
    }


def test_a_count_nobody_knows_is_seen() -> None:
    before = metrics.totals(metrics.UNKNOWN_COUNTS, "name")
    metrics.observe_counters({("brand-new", "x"): 2})
    assert metrics.totals(metrics.UNKNOWN_COUNTS, "name") - before == {"brand-new": 2}


def test_totals_sum_over_the_other_labels() -> None:
    before = metrics.totals(metrics.FINDINGS, "severity")
    metrics.observe_counters({("finding", "ip-change", "low"): 2, ("finding", "device-change", "low"): 3})
    assert metrics.totals(metrics.FINDINGS, "severity") - before == {"low": 5}


def test_what_the_pipeline_counts_has_a_metric() -> None:
    """Every key in `worker/pipeline/batch.py` is one `observe_counters` knows."""
    source = (WORKER / "pipeline" / "batch.py").read_text(encoding="utf-8")
    counted = set(re.findall(r'_count\["([a-z-]+)"', source))
    assert counted
    assert counted <= metrics.COUNTED
