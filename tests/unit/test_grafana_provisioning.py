"""What Grafana is provisioned with: data sources, dashboards, alert rules, contact points; and its ClickHouse user.

Fields are those of `pkg/services/provisioning` in Grafana's source and of the plug-in's `pkg/plugin/settings.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest
import yaml
from grafana_foundation_sdk.models.alerting import ContactPoint, NotificationSettings, RelativeTimeRange

from tests.support.grafana import DASHBOARDS, MACROS, PLUGIN, PROVISIONING, dashboards, panels, provisioned
from tests.support.grafana_schema import QUERIES, fields, misfits

RULES = provisioned("alerting/rules.yaml")
CONTACTS = provisioned("alerting/contact-points.yaml")["contactPoints"]
SOURCES = {each["uid"]: each for each in provisioned("datasources/sessionwatch.yaml")["datasources"]}
EVERY_RULE = [rule for group in RULES["groups"] for rule in group["rules"]]
DOCUMENT = (Path(__file__).parents[2] / "docs/dashboards.md").read_text(encoding="utf-8")
by_uid = pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule["uid"])


class AlertQuery(TypedDict):
    refId: str
    datasourceUid: str
    relativeTimeRange: dict[str, int]
    model: dict[str, Any]


class Rule(TypedDict):
    uid: str
    title: str
    condition: str
    data: list[AlertQuery]
    noDataState: Literal["Alerting", "NoData", "OK", "KeepLast"]
    execErrState: Literal["Alerting", "Error", "OK", "KeepLast"]
    dashboardUid: str
    panelId: int
    annotations: dict[str, str]
    labels: dict[str, str]
    notification_settings: NotificationSettings
    isPaused: NotRequired[bool]


# `for` is a word of Python.
Rule.__annotations__["for"] = str


class Group(TypedDict):
    orgId: int
    name: str
    folder: str
    interval: str
    rules: list[Rule]


def test_rules_have_no_unknown_field() -> None:
    assert RULES.keys() == {"apiVersion", "groups"}
    assert list(misfits(list[Group], RULES["groups"])) == []
    assert len({rule["uid"] for rule in EVERY_RULE}) == len({rule["title"] for rule in EVERY_RULE}) == len(EVERY_RULE)


def test_what_was_promised_is_there() -> None:
    titles = {rule["title"] for rule in EVERY_RULE}
    assert titles >= {
        "Critical findings", "Finding surge of a tenant", "Detection gone silent", "No events are stored",
        "Workers lag behind", "Records are rejected", "Geo files are stale",
    }  # fmt: skip


@by_uid
def test_a_rule_asks_one_source_and_has_one_threshold(rule: dict[str, Any]) -> None:
    query, threshold = rule["data"]
    assert (query["refId"], threshold["refId"], rule["condition"]) == ("A", "B", "B")
    assert threshold["model"]["expression"] == "A"
    for each, kind in ((query, SOURCES[query["datasourceUid"]]["type"]), (threshold, "__expr__")):
        assert list(misfits(QUERIES[kind], each["model"])) == []
        assert each["relativeTimeRange"].keys() == fields(RelativeTimeRange).keys()
        assert each["model"]["refId"] == each["refId"]
    sql = query["model"].get("rawSql", "")
    assert set(re.findall(r"\$__(\w+)", sql)) <= MACROS.keys()
    # Variables of dashboards mean nothing to an alert rule.
    assert "${" not in sql


@by_uid
def test_a_rule_leads_to_a_panel_and_to_somebody(rule: dict[str, Any]) -> None:
    (dashboard,) = (each for each in dashboards().values() if each["uid"] == rule["dashboardUid"])
    assert rule["panelId"] in {panel["id"] for panel in panels(dashboard)}
    settings = rule["notification_settings"]
    assert settings["receiver"] in {contact["name"] for contact in CONTACTS}
    # Grafana refuses any grouping without these two.
    assert set(settings["group_by"]) >= {"grafana_folder", "alertname"}
    assert rule["labels"]["severity"] in ("critical", "high", "medium", "low")


@by_uid
def test_annotations_hold_no_dollar(rule: dict[str, Any]) -> None:
    """Older versions take `$labels` for a variable of the environment."""
    assert all("$" not in text for text in (*rule["annotations"].values(), *rule["labels"].values(), rule["title"]))
    assert rule["annotations"].keys() == {"summary", "description"}


def test_contact_points() -> None:
    for contact in CONTACTS:
        assert contact.keys() == {"orgId", "name", "receivers"}
        for receiver in contact["receivers"]:
            known = fields(ContactPoint)
            assert receiver.keys() <= known.keys()
            assert {"uid", "type", "settings"} <= receiver.keys()
            assert set(receiver["settings"]) == {"addresses", "url"}


def test_data_sources() -> None:
    clickhouse, prometheus = SOURCES.values()
    assert (clickhouse["type"], prometheus["type"]) == (PLUGIN, "prometheus")
    for each in SOURCES.values():
        assert each.keys() <= {
            "name", "uid", "type", "access", "isDefault", "editable", "url", "jsonData", "secureJsonData",
        }  # fmt: skip
    assert clickhouse["jsonData"].keys() == {
        "host", "port", "protocol", "username", "defaultDatabase", "dialTimeout", "queryTimeout",
    }  # fmt: skip
    assert clickhouse["secureJsonData"].keys() == {"password"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def test_the_environment_that_is_read_is_documented_and_nothing_is_secret() -> None:
    read: set[str] = set()
    for path in PROVISIONING.rglob("*.yaml"):
        if path.name != "rules.yaml":
            for text in _texts(yaml.safe_load(path.read_text(encoding="utf-8"))):
                # In braces Grafana would expand what the value holds, too.
                assert re.fullmatch(r"\$[A-Z_]+|[^$]*", text)
                read |= {text[1:]} if text.startswith("$") else set()
    assert len(read) == 13
    assert read == set(re.findall(r"^\| `(SESSIONWATCH_\w+)`", DOCUMENT, re.MULTILINE))


def test_dashboards_are_found_where_they_are_mounted() -> None:
    (provider,) = provisioned("dashboards/sessionwatch.yaml")["providers"]
    assert provider["options"]["path"] in DOCUMENT
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]


def test_the_clickhouse_user_only_reads() -> None:
    config = yaml.safe_load((DASHBOARDS / "clickhouse/grafana-user.yaml").read_text(encoding="utf-8"))
    profile, user = config["profiles"]["grafana"], config["users"]["grafana"]
    assert (profile["readonly"], user["profile"]) == (1, "grafana")
    changeable = {name for name, each in profile["constraints"].items() if each.get("changeable_in_readonly")}
    assert changeable == {"max_execution_time", "additional_table_filters"}
    # clickhouse-go asks for five seconds more than the data source's timeout.
    asked = int(SOURCES["sessionwatch-clickhouse"]["jsonData"]["queryTimeout"]) + 5
    assert asked <= profile["constraints"]["max_execution_time"]["max"]
    assert user["grants"]["query"] == "GRANT SELECT ON sessionwatch.*"
    assert list(user["password"]) == ["@from_env"]


def test_the_document_knows_every_dashboard_panel_and_rule() -> None:
    for dashboard in dashboards().values():
        assert dashboard["title"].partition(": ")[2] in DOCUMENT.lower()
        for panel in panels(dashboard):
            assert f"**{panel['title']}**" in DOCUMENT, panel["title"]
    for rule in EVERY_RULE:
        assert f"| {rule['title']} |" in DOCUMENT
