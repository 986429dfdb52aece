"""The dashboards as files: Grafana's schema, the conventions of docs/dashboards.md, links, and the names in PromQL."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.grafana import (
    ALL,
    DASHBOARDS,
    MACROS,
    PLUGIN,
    conditional_all,
    dashboards,
    panels,
    provisioned,
    variables,
)
from tests.support.grafana_schema import VariableQuery, misfits
from worker.observe.metrics import REGISTRY

FILES = dashboards()
BY_UID = {each["uid"]: each for each in FILES.values()}
EVERY = pytest.mark.parametrize("name", FILES)
TAG = "sessionwatch"


def test_there_are_five() -> None:
    assert set(FILES) == {"overview", "findings", "session", "pivot", "pipeline"}
    assert len(BY_UID) == 5


def test_the_folder_holds_data_only() -> None:
    assert {path.suffix for path in DASHBOARDS.rglob("*") if path.is_file()} == {".json", ".yaml"}


@EVERY
def test_formatting_is_canonical(name: str) -> None:
    text = (DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")
    assert text == json.dumps(FILES[name], indent=2, ensure_ascii=False) + "\n"


# --- Schema ---


@EVERY
def test_no_field_is_unknown_and_no_value_misplaced(name: str) -> None:
    assert list(misfits(Dashboard, FILES[name])) == []
    for each in variables(FILES[name]).values():
        if each["type"] == "query":
            assert list(misfits(VariableQuery, each["query"], each["name"])) == []


def _spoiled() -> Iterator[Callable[[dict[str, Any]], object]]:
    yield lambda it: it.update(foo=1)
    yield lambda it: it["panels"][0].update(foo=1)
    yield lambda it: it["panels"][0]["gridPos"].update(w="1")
    yield lambda it: it["panels"][0]["options"].update(foo=1)
    yield lambda it: it["panels"][0]["options"].update(graphMode="foo")
    yield lambda it: it["panels"][0]["targets"][0].update(rawsql="SELECT 1")
    yield lambda it: it["panels"][6]["fieldConfig"]["defaults"]["custom"].update(foo=1)
    yield lambda it: it["panels"][11]["fieldConfig"]["overrides"][0]["properties"].append(
        {"id": "custom.x", "value": 1}
    )
    yield lambda it: it["panels"][12]["options"]["layers"][0].update(foo=1)
    yield lambda it: it["templating"]["list"][0].update(foo=1)
    yield lambda it: it["panels"][0].update(type="foo")


@pytest.mark.parametrize("spoil", list(_spoiled()))
def test_what_does_not_fit_is_seen(spoil: Callable[[dict[str, Any]], object]) -> None:
    copy = json.loads(json.dumps(FILES["overview"]))
    spoil(copy)
    assert list(misfits(Dashboard, copy))


def _through_the_sdk(given: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(json.dumps(Dashboard.from_json(given), cls=JSONEncoder))
    return written


def _lost(given: Any, kept: Any, path: str = "") -> list[str]:
    if isinstance(given, dict):
        return [lost for key, value in given.items() for lost in _lost(value, kept.get(key), f"{path}/{key}")]
    if isinstance(given, list):
        pairs = itertools.zip_longest(given, kept)
        return [lost for number, pair in enumerate(pairs) for lost in _lost(*pair, f"{path}/{number}")]
    return [] if given == kept else [f"{path}: {given!r} became {kept!r}"]


@EVERY
def test_nothing_is_lost_on_the_way_through_the_sdk_and_back(name: str) -> None:
    once = _through_the_sdk(FILES[name])
    assert _lost(FILES[name], once) == []
    assert _through_the_sdk(once) == once


# --- Conventions ---


@EVERY
def test_conventions(name: str) -> None:
    it = FILES[name]
    assert it["uid"] == f"{TAG}-{name}"
    assert 39 <= it["schemaVersion"] <= 41
    assert (it["refresh"], it["graphTooltip"], it["tags"]) == ("30s", 1, [TAG])
    assert it["description"].endswith("?"), "a dashboard answers a question"
    (menu,) = it["links"]
    assert (menu["type"], menu["tags"], menu["keepTime"], menu["includeVars"]) == ("dashboards", [TAG], True, True)


@EVERY
def test_variables(name: str) -> None:
    first, *others = variables(FILES[name]).values()
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", PLUGIN)
    named = {each["name"]: each for each in others}
    for each in (named["tenant"], named["severity"]):
        assert each["multi"]
        assert each["includeAll"]
        assert each["current"]["value"] == [ALL]
    assert (named["search"]["type"], named["search"]["current"]["value"]) == ("textbox", "")
    assert all(each["label"] and each["description"].endswith(".") for each in others)


def _datasources(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if "uid" in (source := value.get("datasource") or {}):
            yield source["type"], source["uid"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _datasources(each)


@EVERY
def test_no_data_source_is_fixed(name: str) -> None:
    allowed = {(PLUGIN, "${datasource}"), ("prometheus", "${prometheus}"), ("grafana", "-- Grafana --")}
    assert set(_datasources(FILES[name])) <= allowed
    assert ("prometheus" in variables(FILES[name])) == (name == "pipeline")


@EVERY
def test_panels_are_described_and_lie_beside_each_other(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    shown = list(panels(FILES[name]))
    for panel in shown:
        assert panel["title"]
        assert panel["description"][-1] in ".?", panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in FILES[name]["panels"]]
    assert len(ids) == len(set(ids))


def statements(dashboard: dict[str, Any]) -> Iterator[str]:
    yield from (each["query"]["rawSql"] for each in variables(dashboard).values() if each["type"] == "query")
    yield from (target["rawSql"] for panel in panels(dashboard) for target in panel["targets"] if "rawSql" in target)


@EVERY
def test_what_people_enter_reaches_the_engine_encoded(name: str) -> None:
    """Neither `singlequote` nor `sqlstring` escapes backslashes, which ClickHouse heeds: a quote could end the text."""
    everything = {each["name"]: "" for each in FILES[name]["templating"]["list"]}
    for sql in statements(FILES[name]):
        used = re.findall(r"\$\{?(\w+)(?::([\w:]+))?\}?", sql)
        unknown = {word for word, _ in used if not word.startswith("__")} - everything.keys()
        assert not unknown
        # With nothing chosen nothing of a variable is left: each stands in a $__conditionalAll.
        assert not set(re.findall(r"\$\{?(\w+)", conditional_all(sql, everything))) & everything.keys()
        formats = {form for word, form in used if word in everything and form}
        assert formats <= {"percentencode", "customqueryparam:v"}
        assert len(re.findall(r"\$\{(?!__)\w+:", sql)) == len(re.findall(r"decodeURLComponent\(", sql))


@EVERY
def test_macros_are_the_plugins(name: str) -> None:
    for sql in statements(FILES[name]):
        assert set(re.findall(r"\$__(\w+)", sql)) <= MACROS.keys() | {"conditionalAll"}


def test_views_with_parameters_are_given_literals() -> None:
    """Servers before 26.9 may not take expressions there: https://github.com/ClickHouse/ClickHouse/issues/87904."""
    literals = (
        r"activity\(from = \$\{__from:date:seconds\}, to = \$\{__to:date:seconds\}, seconds = (\d+|\$__interval_s)\)"
    )
    for sql in itertools.chain(*map(statements, FILES.values())):
        assert len(re.findall(r"\bactivity\(", sql)) == len(re.findall(literals, sql))


# --- Links ---


def links(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        config = panel["fieldConfig"]
        found = [*config["defaults"].get("links", ())]
        found += [
            link
            for override in config["overrides"]
            for each in override["properties"]
            if each["id"] == "links"
            for link in each["value"]
        ]
        yield from (link["url"] for link in found)


@EVERY
def test_links_lead_to_dashboards_and_keep_window_and_variables(name: str) -> None:
    for url in links(FILES[name]):
        path, _, query = url.partition("?")
        target = BY_UID[re.fullmatch(r"/d/([\w-]+)", path)[1]]  # type: ignore[index]
        here, there = variables(FILES[name]).keys(), variables(target).keys()
        kept, given = set(re.findall(r"\$\{(\w+):queryparam\}", query)), set(re.findall(r"var-(\w+)=", query))
        assert "${__url_time_range}" in query
        assert kept <= here & there
        assert given <= there
        assert {"datasource", "tenant", "severity", "search"} <= kept | given, url
        # A value goes into an address percent-encoded.
        assert not re.findall(r"\$\{__(?:data|value)[^:}]*\}", query)


def test_the_way_from_a_finding_to_its_session_and_user_and_on() -> None:
    def reached(name: str) -> set[str]:
        return {re.match(r"/d/sessionwatch-(\w+)", url)[1] for url in links(FILES[name])}  # type: ignore[index]

    assert reached("findings") >= {"session", "pivot", "findings"}
    assert reached("session") >= {"pivot", "findings"}
    assert reached("pivot") >= {"session", "findings", "pivot"}
    assert reached("overview") >= {"findings", "session", "pivot"}


# --- Prometheus ---

LABELS = {
    f"{collector._name}{suffix}": set(collector._labelnames) | ({"le"} if suffix == "_bucket" else set())
    for collector in set(REGISTRY._collector_to_names)
    for suffix in {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[collector._type]
}
# Grafana's own, which its Prometheus data source replaces before the query leaves.
RATE_INTERVAL = "$__rate_interval"


def promql() -> Iterator[tuple[str, str]]:
    """Iterate over every PromQL expression there is, with its legend."""
    for dashboard in FILES.values():
        for panel in panels(dashboard):
            yield from ((each["expr"], each["legendFormat"]) for each in panel["targets"] if "expr" in each)
    for group in provisioned("alerting/rules.yaml")["groups"]:
        for rule in group["rules"]:
            yield from ((each["model"]["expr"], "") for each in rule["data"] if "expr" in each["model"])


def _nodes(expression: promql_parser.Expr) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(expression, found.append)
    return found


@pytest.mark.parametrize(("expression", "legend"), sorted(set(promql())))
def test_promql_names_metrics_and_labels_that_exist(expression: str, legend: str) -> None:
    nodes = _nodes(promql_parser.parse(expression.replace(RATE_INTERVAL, "1m")))
    selectors = [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]
    assert selectors
    known: set[str] = set()
    for selector in selectors:
        assert selector.name in LABELS
        assert {matcher.name for matcher in selector.matchers.matchers} <= LABELS[selector.name]
        known |= LABELS[selector.name]
    grouped = {
        label
        for node in nodes
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier
        for label in node.modifier.labels
    }
    assert grouped <= known
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped


def test_a_counter_is_never_shown_raw() -> None:
    for expression, _ in promql():
        for metric in re.findall(r"(\w+_total|\w+_bucket)\b", expression):
            assert re.search(rf"(?:rate|increase)\({metric}", expression), expression
