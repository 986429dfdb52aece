"""Every query of the dashboards and of the alert rules, on the real engine over simulated traffic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

import orjson
import pytest
from clickhouse_connect.driver.client import Client

from tests.support.grafana import (
    ALL,
    Variables,
    Window,
    dashboards,
    expand,
    interpolated,
    panels,
    provisioned,
    variables,
)
from tests.support.store_fixtures import Store, store  # noqa: F401  a fixture
from worker.apps.build import build_pipeline
from worker.apps.local import fill
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.local import LocalPipeline
from worker.pipeline.ports import LocalRecord
from worker.settings import Settings
from worker.simulator import Simulator, profile
from worker.stream.state_store import MemoryShard

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
HOURS = 3
# Whoever makes up such names is up to something; `&v=` is how several values of a variable are told apart.
TENANT, USER, SESSION = "o'hara\\&v=t, {u}", "d'arcy\\' OR 1=1 --", 'it\'s "one" \\'
FILES = dashboards()

# What the plug-in makes fields of (its `pkg/converters/registry.go`).
NUMBER = r"U?Int(8|16|32|64)|Float(32|64)"
TIME = r"Date(Time)?(64)?(\(.*\))?"
TEXT = r"String|LowCardinality\(String\)"
UNDERSTOOD = rf"(Nullable\()?({NUMBER}|{TIME}|{TEXT}|Bool)\)?"


class Answer(NamedTuple):
    """What came back: types by column, and rows."""

    types: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]

    def columns(self, kind: str) -> list[str]:
        return [name for name, type_ in self.types.items() if re.fullmatch(rf"(Nullable\()?({kind})\)?", type_)]


class World(NamedTuple):
    """A filled store, what a dashboard shows of it, and what can be chosen."""

    client: Client
    window: Window
    chosen: Variables

    def ask(self, sql: str, choice: Variables, window: Window | None = None) -> Answer:
        result = self.client.query(expand(sql, choice, window or self.window))
        types = dict(zip(result.column_names, (each.name for each in result.column_types), strict=True))
        assert len(types) == len(result.column_names), "two columns have one name"
        return Answer(types, list(result.named_results()))


def snapshot(time: int, **changes: Any) -> tuple[bytes, int]:
    told = {"uid": SESSION, "tenant_id": TENANT, "user_id": USER, "ip": "203.0.113.7", "user_agent": "curl/8.9",
            "location": "Paris, FR", "created_at": time - MINUTE, "last_used_at": time}  # fmt: skip
    return orjson.dumps({**told, **changes}), time


# One partition keeps everybody.
SETTINGS = Settings.model_validate({"topics": {"partitions": 1}})


def deliver(client: Client, topic: str, values: Sequence[tuple[bytes, int]]) -> None:
    """Put records, each a value and its time, through a pipeline of their own into the store."""
    pipeline = build_pipeline(SETTINGS, Policies(detections().values()), build_enricher(None, None))
    local = LocalPipeline(pipeline, MemoryShard(), (SETTINGS.topics.starts, SETTINGS.topics.findings))
    # The simulation's are of partition 0.
    records = [LocalRecord(topic, 1, offset, time, None, value, ()) for offset, (value, time) in enumerate(values)]
    for outcome in local.process(records):
        for table, rows in outcome.rows.items():
            write_rows(client, table, rows)


@pytest.fixture(scope="module")
def world(store: Store) -> Iterator[World]:  # noqa: F811
    simulator = Simulator(
        profile("demo", users=100, tenants=4, rate=0.4, duration_ms=HOURS * HOUR, warmup_days=16.0, history_sessions=4,
                attack_interval_ms=45_000, late_share=0.02)
    )  # fmt: skip
    with closing(connect(store.dsn)) as client:
        migrations.up(client)
        fill(SETTINGS, client, simulator)
        end = int(simulator.config.end_ms)
        # A revoked session is used again: critical, in the last minute there is.
        used = snapshot(end - 30_000, ip="198.51.100.9", location="Lima, PE")
        revoked = snapshot(end - 2 * MINUTE, is_deleted=True)
        deliver(client, SETTINGS.topics.events, [snapshot(end - 3 * MINUTE), revoked, used])
        deliver(client, SETTINGS.topics.feedback, list(_verdicts(client, end)))
        yield World(client, Window(end - HOURS * HOUR, end, 60), _choose(client))


def _choose(client: Client) -> Variables:
    """A finding of the simulation that moved between two places, and all that leads to it."""
    (found,) = client.query(
        "SELECT tenant_id, user_id AS user, session_uid AS session, finding_uid AS finding, severity, ip FROM findings"
        " FINAL WHERE detection = 'location-change' AND is_alert AND distance_km > 0 AND position(ip, ':') = 0"
        " ORDER BY finding_uid LIMIT 1"
    ).named_results()
    network = found.pop("ip").rpartition(".")[0] + ".0/24"
    return {
        **found,
        "tenant": [found.pop("tenant_id")],
        "severity": [found["severity"]],
        "network": network,
        "search": "",
    }


def _verdicts(client: Client, time: int) -> Iterator[tuple[bytes, int]]:
    for number, (uid,) in enumerate(client.query("SELECT finding_uid FROM findings FINAL").result_rows):
        verdict = "false_positive" if number % 4 == 0 else "true_positive"
        yield orjson.dumps({"finding_uid": uid, "verdict": verdict, "author": "test"}), time


def everything(dashboard: Mapping[str, Any]) -> Variables:
    """What a dashboard shows when it is opened."""
    return {name: each["current"]["value"] for name, each in variables(dashboard).items() if "current" in each}


class Query(NamedTuple):
    """A query of a panel or a variable (then there is no panel)."""

    dashboard: str
    panel: dict[str, Any]
    sql: str
    form: int


def queries() -> Iterator[Query]:
    for name, dashboard in FILES.items():
        for panel in panels(dashboard):
            targets = [each for each in panel["targets"] if "rawSql" in each]
            yield from (Query(name, panel, each["rawSql"], each["format"]) for each in targets)
        for each in variables(dashboard).values():
            if each["type"] == "query":
                yield Query(name, {"title": each["name"], "type": "variable"}, each["query"]["rawSql"], 1)


def parametrized(found: list[Query]) -> Any:
    return pytest.mark.parametrize("query", found, ids=[f"{each.dashboard}-{each.panel['title']}" for each in found])


EVERY = parametrized(list(queries()))
EVERY_PANEL = parametrized([each for each in queries() if each.panel["type"] != "variable"])


@EVERY
def test_gives_what_its_panel_draws(world: World, query: Query) -> None:
    answer = world.ask(query.sql, everything(FILES[query.dashboard]))
    assert answer.rows, "nothing to see"
    assert all(re.fullmatch(UNDERSTOOD, kind) for kind in answer.types.values()), answer.types
    DRAWS[query.panel["type"]](query.panel, answer, world.window)


@EVERY_PANEL
def test_shows_what_is_chosen_and_nothing_else(world: World, query: Query) -> None:
    dashboard = FILES[query.dashboard]
    offered = {name: value for name, value in world.chosen.items() if name in variables(dashboard)}
    answer = world.ask(query.sql, {**everything(dashboard), **offered})
    # That few findings need not have been suppressed.
    assert answer.rows or query.panel["title"] == "What suppressed"
    assert {row["tenant_id"] for row in answer.rows if "tenant_id" in row} <= set(world.chosen["tenant"])
    assert {row["severity"] for row in answer.rows if "severity" in row} <= set(world.chosen["severity"])


@EVERY_PANEL
def test_names_full_of_quotes_find_themselves(world: World, query: Query) -> None:
    dashboard = FILES[query.dashboard]
    given: Variables = {
        "tenant": [TENANT, "nobody"],
        "user": USER,
        "session": SESSION,
        "search": USER,
        "network": "it's \\",
    }
    offered = {name: value for name, value in given.items() if name in variables(dashboard)}
    answer = world.ask(query.sql, {**everything(dashboard), **offered})
    for column, names in (("tenant_id", {TENANT}), ("user_id", {USER}), ("session_uid", {SESSION, ""})):
        assert {row[column] for row in answer.rows if column in row} <= names


def test_names_full_of_quotes_are_found(world: World) -> None:
    for dashboard, panel, chosen in (
        ("findings", 9, {"search": USER}), ("findings", 9, {"tenant": [TENANT]}), ("session", 6, {"session": SESSION}),
        ("session", 7, {"user": USER}), ("pivot", 6, {"user": USER}), ("overview", 12, {"tenant": ["x", TENANT]}),
    ):  # fmt: skip
        answer = world.ask(sql_of(dashboard, panel), {**everything(FILES[dashboard]), **chosen})
        assert {row["tenant_id"] for row in answer.rows} == {TENANT}, (dashboard, panel)


@EVERY
def test_searching_for_a_quote_finds_nothing_and_breaks_nothing(world: World, query: Query) -> None:
    for search in ("'", "\\", "') OR 1=1 --", "%27", "/*"):
        world.ask(query.sql, {**everything(FILES[query.dashboard]), "search": search})


def sql_of(dashboard: str, panel: int) -> str:
    (found,) = (each for each in panels(FILES[dashboard]) if each["id"] == panel)
    return str(found["targets"][0]["rawSql"])


@pytest.fixture(scope="module")
def read_only(store: Store) -> str:  # noqa: F811
    return f"{store.address.url}/?password={store.address.reader}"


@EVERY
def test_the_embedded_store_answers_as_the_plugin_asks(world: World, read_only: str, query: Query) -> None:
    """POST, Native, a protocol version and `max_execution_time`, as clickhouse-go does it over HTTP."""
    asked = "&database=default&default_format=Native&client_protocol_version=54483&max_execution_time=35"
    sql = expand(query.sql, everything(FILES[query.dashboard]), world.window)
    with urlopen(Request(read_only + asked, sql.encode())) as answer:
        assert answer.status == 200
        assert answer.read()


# --- What each kind of panel needs ---


def _draw_stat(_panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    assert len(answer.rows) == 1
    assert answer.columns(f"{NUMBER}|{TEXT}") == list(answer.types)
    assert None not in answer.rows[0].values()


def _draw_series(_panel: dict[str, Any], answer: Answer, window: Window) -> None:
    time, *values = answer.types
    assert (time, answer.columns(TIME)) == ("time", ["time"])
    # A text names the series; all the rest are numbers.
    assert answer.columns(NUMBER)
    assert len(answer.columns(TEXT)) <= 1
    assert len(answer.columns(f"{NUMBER}|{TEXT}")) == len(values)
    times = [row["time"].timestamp() * 1000 for row in answer.rows]
    assert times == sorted(times)
    # An interval that has begun before the window is drawn with what of it lies in the window.
    assert window.start - window.interval * 1000 <= times[0] <= times[-1] <= window.end


def _draw_bars(_panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    assert (len(answer.columns(TEXT)), len(answer.columns(NUMBER)), len(answer.types)) == (1, 1, 2)


def _draw_table(panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    shown = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    assert set(shown) == set(answer.types), "columns with a title, and columns"
    for name, properties in shown.items():
        given = {each["id"]: each["value"] for each in properties}
        wanted = (
            TIME if given.get("unit") == "dateTimeAsIso" else NUMBER if {"unit", "thresholds"} & given.keys() else ""
        )
        assert not wanted or name in answer.columns(wanted), (name, answer.types[name])
    for url in re.findall(r"__data\.fields\.(\w+)", str(shown)):
        assert url in answer.types


def _draw_timeline(_panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    assert answer.columns(TIME) == ["time"]
    assert answer.columns(TEXT) == list(answer.types)[1:]


def _draw_map(panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    for row in answer.rows:
        assert -90 <= row["latitude"] <= 90
        assert -180 <= row["longitude"] <= 180
    for layer in panel["options"]["layers"]:
        style = layer["config"]["style"]
        used = {style[part]["field"] for part in ("color", "size") if "field" in style.get(part, {})}
        assert used <= set(answer.columns(NUMBER))


def _draw_options(_panel: dict[str, Any], answer: Answer, _window: Window) -> None:
    assert answer.columns(TEXT) == list(answer.types)


DRAWS = {
    "stat": _draw_stat, "timeseries": _draw_series, "bargauge": _draw_bars, "table": _draw_table,
    "state-timeline": _draw_timeline, "geomap": _draw_map, "variable": _draw_options,
}  # fmt: skip


# --- Against the plain truth ---


@pytest.mark.parametrize(
    ("panel", "truth"),
    [
        (2, "SELECT uniqExact(tenant_id, user_id) FROM session_events FINAL WHERE"),
        (3, "SELECT count() FROM session_events FINAL WHERE"),
        (4, ("SELECT uniqExact(tenant_id, user_id, session_uid) FROM session_events FINAL"
            " WHERE event_time = session_started_at AND")),
        (6, "SELECT count() FROM findings FINAL WHERE is_alert AND severity_id >= 4 AND status != 'closed' AND"),
    ],
)  # fmt: skip
def test_overview_counts_right(world: World, panel: int, truth: str) -> None:
    (counted,) = world.ask(sql_of("overview", panel), everything(FILES["overview"])).rows
    window = "event_time >= $__fromTime_ms AND event_time < $__toTime_ms"
    (expected,) = world.ask(f"{truth} {window}", {}).rows
    assert list(counted.values()) == list(expected.values())
    assert next(iter(counted.values())) > 0


def test_the_riskiest_session_is_shown_when_none_is_chosen(world: World) -> None:
    (shown, *_) = world.ask(sql_of("session", 1), everything(FILES["session"])).rows
    highest = world.ask("SELECT max(risk_score) AS risk FROM sessions FINAL WHERE last_seen_at >= $__fromTime_ms", {})
    assert shown["risk_score"] == highest.rows[0]["risk"]


def test_sessions_at_once_are_those_that_overlap(world: World) -> None:
    chosen = {**everything(FILES["pivot"]), "user": world.chosen["user"], "tenant": world.chosen["tenant"]}
    drawn = world.ask(sql_of("pivot", 2), chosen).rows
    sql = (
        "SELECT started_at, ended_at FROM sessions FINAL WHERE tenant_id = ${tenant:singlequote} AND user_id = '$user'"
    )
    spans = [(row["started_at"], row["ended_at"]) for row in world.ask(sql, chosen).rows]
    assert len(spans) > 2
    for point in drawn[1:]:
        at = point["time"]
        # What ends at a moment is over, unless something begins in its place.
        over = sum(start <= at and (end is None or end > at) for start, end in spans)
        begun = sum(start == at for start, _ in spans)
        assert over <= point["sessions"] <= over + begun


def test_two_severities_and_two_tenants_are_the_sum_of_their_parts(world: World) -> None:
    sql, opened = sql_of("findings", 1), everything(FILES["findings"])

    def alerts(**chosen: Any) -> int:
        return int(world.ask(sql, {**opened, **chosen}).rows[0]["alerts"])

    first, second, *_ = [
        row["tenant_id"] for row in world.ask("SELECT DISTINCT tenant_id FROM findings ORDER BY 1", {}).rows
    ]
    assert alerts(severity=["critical", "high"]) == alerts(severity=["critical"]) + alerts(severity=["high"]) > 0
    assert alerts(tenant=[first, second]) == alerts(tenant=[first]) + alerts(tenant=[second]) > 0
    assert alerts() == alerts(severity=["critical", "high", "medium"]) >= alerts(severity=["high"])


# --- Links, followed ---


def followed(url: str, choice: Variables, row: Mapping[str, Any], window: Window) -> tuple[str, Variables]:
    """Return the dashboard a link leads to and what is chosen there."""
    range_ = f"from={window.start}&to={window.end}"
    fields = re.sub(r"\$\{__data\.fields\.(\w+):percentencode\}", lambda each: quote(str(row[each[1]]), safe=""), url)
    parts = urlsplit(interpolated(fields.replace("${__url_time_range}", range_), choice))
    given = parse_qs(parts.query, keep_blank_values=True)
    assert (given.pop("from"), given.pop("to")) == ([str(window.start)], [str(window.end)])
    name = parts.path.removeprefix("/d/sessionwatch-")
    named = variables(FILES[name])
    chosen = {key.removeprefix("var-"): values for key, values in given.items()}
    multi = {key: values if named[key].get("multi") else values[0] for key, values in chosen.items()}
    return name, {**everything(FILES[name]), **multi}


LINKED = [
    (query, name, link)
    for query in queries()
    if query.panel["type"] == "table"
    for name, properties in (
        (o["matcher"]["options"], o["properties"]) for o in query.panel["fieldConfig"]["overrides"]
    )
    for each in properties
    if each["id"] == "links"
    for link in each["value"]
]
SHOWS = {"session": (1, "session"), "pivot": (1, "user"), "findings": (9, ""), "overview": (12, "")}
"""By dashboard: the panel that must not be empty, and the variable whose value it then shows."""


@pytest.mark.parametrize(
    ("query", "column", "link"),
    LINKED,
    ids=[f"{query.dashboard}-{query.panel['title']}-{column}-{link['title']}" for query, column, link in LINKED],
)
def test_a_link_leads_to_what_it_promises(world: World, query: Query, column: str, link: dict[str, str]) -> None:
    findings = query.dashboard in ("overview", "findings", "pipeline")
    here = {**everything(FILES[query.dashboard]), "datasource": "uid", "search": "location-change" if findings else ""}
    rows = world.ask(query.sql, here).rows
    # A finding need not be about a session, or an address have a /24.
    row = next(row for row in rows if row[column] and row.get("session_uid", "-") and row.get("prefix", "-"))
    name, chosen = followed(link["url"], here, row, world.window)
    assert chosen["datasource"] == "uid"
    panel, shown = (8, "network") if chosen.get("network") else SHOWS[name]
    there = world.ask(sql_of(name, panel), chosen).rows
    assert there
    if shown:
        of = {"session": "session_uid", "user": "user_id", "network": "prefix"}[shown]
        assert {each[of] for each in there} == {chosen[shown]} == {row[of]}
        assert {each["tenant_id"] for each in there} == {row["tenant_id"]}


# --- Alert rules ---

RULES = {rule["uid"]: rule for group in provisioned("alerting/rules.yaml")["groups"] for rule in group["rules"]}
SQL_RULES = {uid: rule["data"][0] for uid, rule in RULES.items() if "rawSql" in rule["data"][0]["model"]}


def evaluated(world: World, uid: str, later: int = 0) -> tuple[list[float], list[bool]]:
    """The values of a rule, `later` milliseconds after the end of the traffic, and which of them fire."""
    query, threshold = RULES[uid]["data"]
    now = world.window.end + later
    span = query["relativeTimeRange"]
    answer = world.ask(query["model"]["rawSql"], {}, Window(now - span["from"] * 1000, now - span["to"] * 1000, 60))
    if not answer.rows:
        return [], []
    # Grafana takes a table for numbers with labels when one column is a number and all others are text.
    (number,) = answer.columns(NUMBER)
    assert {*answer.columns(TEXT), number} == set(answer.types)
    values = [float(row[number]) for row in answer.rows]
    evaluator = threshold["model"]["conditions"][0]["evaluator"]
    limit = evaluator["params"][0]
    return values, [value > limit if evaluator["type"] == "gt" else value < limit for value in values]


@pytest.mark.parametrize("uid", SQL_RULES)
def test_a_rule_gives_numbers_and_uses_its_labels(world: World, uid: str) -> None:
    values, _ = evaluated(world, uid)
    assert values
    query = SQL_RULES[uid]
    span = query["relativeTimeRange"]["from"] * 1000
    window = Window(world.window.end - span, world.window.end, 60)
    labels = set(world.ask(query["model"]["rawSql"], {}, window).columns(TEXT))
    assert set(re.findall(r"\.Labels\.(\w+)", str(RULES[uid]["annotations"]))) <= labels


def test_rules_fire_when_they_should(world: World) -> None:
    assert any(evaluated(world, "sessionwatch-critical")[1])
    assert not any(evaluated(world, "sessionwatch-critical", later=HOUR)[1])
    assert not any(evaluated(world, "sessionwatch-no-events")[1])
    assert evaluated(world, "sessionwatch-no-events", later=HOUR)[1] == [True]
    assert any(evaluated(world, "sessionwatch-surge")[1])
    assert not any(evaluated(world, "sessionwatch-surge", later=2 * HOUR)[1])
    assert not any(evaluated(world, "sessionwatch-silent")[1])
    assert any(evaluated(world, "sessionwatch-silent", later=DAY + HOUR)[1])


def test_nothing_chosen_is_everything(world: World) -> None:
    opened = everything(FILES["findings"])
    assert world.ask(sql_of("findings", 1), opened) == world.ask(sql_of("findings", 1), {**opened, "tenant": [ALL]})
