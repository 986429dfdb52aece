"""The alert rules for Prometheus: valid, over metrics that exist, equal to Grafana's, and firing when they should."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from tests.support.grafana import provisioned
from worker.observe import metrics

DIRECTORY = Path(__file__).parents[2] / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DIRECTORY / "rules.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
TESTS: list[dict[str, Any]] = yaml.safe_load((DIRECTORY / "rules.test.yml").read_text("utf-8"))["tests"]
by_name = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
GRAFANA = {
    "sessionwatch-not-ready": "SessionwatchNoWorkerReady",
    "sessionwatch-lag": "SessionwatchLag",
    "sessionwatch-rejects": "SessionwatchRejects",
    "sessionwatch-failed": "SessionwatchFailed",
    "sessionwatch-stale-geo": "SessionwatchStaleGeo",
}
"""Grafana's rules over Prometheus, and those here that ask the same."""


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool, of Debian's package `prometheus`."""
    tool = shutil.which("promtool")
    if tool is None:
        if os.environ.get("CI_REQUIRE_PROMTOOL"):
            pytest.fail("there is no promtool")
        pytest.skip("there is no promtool here")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)


def names(expression: str) -> set[str]:
    """Return the metrics that an expression asks for, without what it leads to for a range, a label or a function."""
    return set(re.findall(r"\bsessionwatch_\w+", expression))


def bare(expression: str) -> str:
    """Return an expression on one line, without the brackets around all of it."""
    line = " ".join(expression.split())
    return re.sub(r"^\((.*)\)$", r"\1", line)


def exposed() -> dict[str, set[str]]:
    """Return the labels of every metric, by the name under which Prometheus scrapes it."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            found[family.name + suffix] = set(metric._labelnames)
    return found


@by_name
def test_a_rule_is_of_metrics_that_exist(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    known = exposed()
    asked = names(rule["expr"])
    assert asked <= known.keys()
    assert asked or rule["expr"].startswith("up{")
    labels = {label for name in asked for label in known[name]} | {"instance", "job"}
    used = re.findall(r"by \((\w+)\)", rule["expr"]) + re.findall(r"[{,]\s*(\w+)!?=", rule["expr"])
    assert set(used) <= labels
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels


@by_name
def test_a_rule_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "high", "medium", "low")
    assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize(("uid", "name"), GRAFANA.items())
def test_grafana_asks_the_same(uid: str, name: str) -> None:
    groups = provisioned("alerting/rules.yaml")["groups"]
    (theirs,) = (rule for group in groups for rule in group["rules"] if rule["uid"] == uid)
    (ours,) = (rule for rule in RULES if rule["alert"] == name)
    query, threshold = theirs["data"]
    (condition,) = threshold["model"]["conditions"]
    sign = {"gt": ">", "lt": "<"}[condition["evaluator"]["type"]]
    asked, bound = ours["expr"].rsplit(sign, 1)
    assert float(bound) == condition["evaluator"]["params"][0]
    assert bare(asked) == bare(query["model"]["expr"])
    assert ours.get("for", "0s") == theirs["for"]
    assert ours["labels"]["severity"] == theirs["labels"]["severity"]


def test_every_rule_of_grafana_over_prometheus_is_here() -> None:
    groups = provisioned("alerting/rules.yaml")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {r["uid"] for r in rules if r["data"][0]["datasourceUid"] == "sessionwatch-prometheus"} == GRAFANA.keys()


def test_every_rule_is_seen_to_fire() -> None:
    fired = {case["alertname"] for test in TESTS for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    done = promtool("check", "rules", str(DIRECTORY / "rules.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_fire_when_they_should_and_not_otherwise() -> None:
    done = promtool("test", "rules", str(DIRECTORY / "rules.test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_fires_too_early_is_seen(tmp_path: Path) -> None:
    text = (DIRECTORY / "rules.yml").read_text("utf-8").replace("[15m]", "[1m]").replace("> 300\n", "> 3\n")
    (tmp_path / "rules.yml").write_text(text, "utf-8")
    shutil.copy(DIRECTORY / "rules.test.yml", tmp_path)
    assert promtool("test", "rules", str(tmp_path / "rules.test.yml")).returncode == 1
