"""What Grafana and its ClickHouse data source make of a query before the engine sees it; the files of `dashboards/`.

Written after the plug-in's own source, version 4.20.0 (https://github.com/grafana/clickhouse-datasource:
`src/data/CHDatasource.ts` for the part in the browser, `pkg/macros` for the part in the server, which finds macros by
https://github.com/grafana/macropro) and Grafana's formats of variables (https://github.com/grafana/scenes:
`variables/interpolation/formatRegistry.ts`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import yaml

DASHBOARDS: Final = Path(__file__).parents[2] / "dashboards"
PROVISIONING: Final = DASHBOARDS / "provisioning"
PLUGIN: Final = "grafana-clickhouse-datasource"
ALL: Final = "$__all"
CONDITIONAL_ALL: Final = "$__conditionalAll("

# Quotes are kept, comments are blanked.
_COMMENTS = re.compile(
    r"""('(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*"|`(?:\\.|``|[^`\\])*`|(\$\w*\$).*?\2)|(--[^\r\n]*|/\*.*?(?:\*/|\Z))""",
    re.DOTALL,
)
_QUOTED = re.compile(r"""'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*\"""", re.DOTALL)
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.[^:}]+)?(?::([^}]+))?\}")
_NAMED = re.compile(r"(?<=\$\{)\w+(?=\})|(?<=\$)\w+")
_STATEMENT_MACROS = ("columns", "rateColumns", "perSecondColumns", "increaseColumns", "lttb")

Variables = Mapping[str, "str | Sequence[str]"]


class Window(NamedTuple):
    """What a panel looks at: milliseconds since the epoch, and seconds a point."""

    start: int
    end: int
    interval: int


def expand(sql: str, variables: Variables, window: Window) -> str:
    """Return the SQL that reaches the engine."""
    given = {**variables, "__interval": f"{window.interval}s", "__interval_ms": str(window.interval * 1000),
             "__from": str(window.start), "__to": str(window.end)}  # fmt: skip
    return macros(interpolated(conditional_all(sql, variables), given), window)


# --- In the browser ---


def conditional_all(sql: str, variables: Variables) -> str:
    """Replace `$__conditionalAll(condition, $variable)` by the condition, or by 1=1 when all or nothing is chosen."""
    while (at := sql.rfind(CONDITIONAL_ALL)) >= 0:
        arguments = _raw_arguments(sql, at + len(CONDITIONAL_ALL) - 1)
        if len(arguments) != 2:
            break
        condition, about = arguments
        named = _NAMED.search(about)
        if named and named[0] in variables and _joined(variables[named[0]]) in ("", ALL):
            condition = "1=1"
        if re.search(r"\$[$&`']", condition):
            raise ValueError(f"JavaScript's replace would take this for its own: {condition}")
        sql = sql.replace(f"{CONDITIONAL_ALL}{arguments[0]},{about})", condition, 1)
    return sql


def _raw_arguments(sql: str, start: int) -> list[str]:
    """Split what is in the brackets at `start`; this part of the plug-in knows no quotes."""
    depth, begun, found = 0, start + 1, []
    for mark in re.finditer(r"[(),]", sql[start:]):
        at = start + mark.start()
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if (mark[0] == "," and depth == 1) or depth == 0:
            found.append(sql[begun:at])
            begun = at + 1
        if depth == 0:
            return found
    return []


def _joined(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)


def interpolated(text: str, variables: Variables) -> str:
    """Replace variables by their values; unknown ones stay."""

    def one(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[4]
        form, *arguments = (found[3] or found[5] or "").split(":")
        return FORMATS[form](variables[name], name, *arguments) if name in variables else found[0]

    return _VARIABLE.sub(one, text)


def _encoded(value: str) -> str:
    """Percent-encode all but letters, digits and `-_.~`, as Grafana does it strictly."""
    return quote(value, safe="")


def _values(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def _plain(value: str | Sequence[str], _name: str) -> str:
    """The plug-in's own format: many values in quotes that are not escaped, one as it stands."""
    return value if isinstance(value, str) else "'" + "','".join(value) + "'"


def _percent(value: str | Sequence[str], _name: str) -> str:
    return _encoded(value if isinstance(value, str) else "{" + ",".join(value) + "}")


def _queryparam(value: str | Sequence[str], name: str) -> str:
    return "&".join(f"var-{name}={_encoded(each)}" for each in _values(value))


def _date(value: str, _name: str, form: str = "iso") -> str:
    """Of a time in milliseconds; only the forms used are known."""
    return {"ms": value, "seconds": str(round(int(value) / 1000))}[form]


def _customqueryparam(value: str | Sequence[str], name: str, key: str = "", prefix: str = "") -> str:
    return "&".join(f"{_encoded(key or name)}={_encoded(prefix)}{_encoded(each)}" for each in _values(value))


FORMATS: Final[Mapping[str, Callable[..., str]]] = {
    "": _plain,
    "raw": lambda value, _name: _joined(value),
    "percentencode": _percent,
    "queryparam": _queryparam,
    "customqueryparam": _customqueryparam,
    "date": _date,
    "singlequote": lambda value, _name: ",".join("'" + each.replace("'", "\\'") + "'" for each in _values(value)),
    "sqlstring": lambda value, _name: ",".join("'" + each.replace("'", "''") + "'" for each in _values(value)),
}


# --- In the server ---


def macros(sql: str, window: Window) -> str:
    """Expand the plug-in's macros, the innermost first.

    Raises:
        ValueError: a macro has the wrong number of arguments, or is one of those that rewrite the whole statement.
    """
    sql = _COMMENTS.sub(lambda found: found[1] or " " * len(found[0]), sql)
    if rewriting := re.search(rf"\$__(?:{'|'.join(_STATEMENT_MACROS)})\b", sql):
        raise ValueError(f"{rewriting[0]} is not expanded here")
    for found in reversed(list(re.finditer(r"\$__(\w+)", sql))):
        if found[1] in MACROS:
            count, made = MACROS[found[1]]
            arguments, end = _arguments(sql, found.end())
            if count and len(arguments) != count:
                raise ValueError(f"{found[0]} expected {count} argument(s), received {len(arguments)}")
            sql = sql[: found.start()] + made(window, *arguments[:count]) + sql[end:]
    return sql


def _arguments(sql: str, start: int) -> tuple[list[str], int]:
    """Return the arguments in the brackets at `start`, if there are any, and where they end."""
    if sql[start : start + 1] != "(":
        return [], start
    depth, begun, found, at = 0, start + 1, [], start
    while at < len(sql):
        if quoted := _QUOTED.match(sql, at):
            at = quoted.end()
            continue
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if (sql[at] == "," and depth == 1) or depth == 0:
            found.append(sql[begun:at].strip())
            begun = at + 1
        at += 1
        if depth == 0:
            return ([] if found == [""] else found), at
    return [], start


def _seconds(ms: int) -> str:
    return f"toDateTime({ms // 1000})"


def _millis(ms: int) -> str:
    return f"fromUnixTimestamp64Milli({ms})"


def _day(ms: int) -> str:
    return f"toDate('{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}')"


def _between(column: str, form: Callable[[int], str], window: Window) -> str:
    return f"{column} >= {form(window.start)} AND {column} <= {form(window.end)}"


def _date_and_time(window: Window, date: str, time: str) -> str:
    return f"({_between(date, _day, window)}) AND ({_between(time, _seconds, window)})"


def _time_group(_window: Window, column: str, period: str) -> str:
    number, unit = re.fullmatch(r"(\d+)([smh])", period.strip("'\"")).groups()  # type: ignore[union-attr]
    return _start_of(column, int(number) * {"s": 1, "m": 60, "h": 3600}[unit])


def _start_of(column: str, seconds: int) -> str:
    return f"toStartOfInterval(toDateTime({column}), INTERVAL {seconds} second)"


MACROS: Final[Mapping[str, tuple[int, Callable[..., str]]]] = {
    "fromTime": (0, lambda window: _seconds(window.start)),
    "toTime": (0, lambda window: _seconds(window.end)),
    "fromTime_ms": (0, lambda window: _millis(window.start)),
    "toTime_ms": (0, lambda window: _millis(window.end)),
    "timeFrom": (1, lambda window, column: f"{column} >= {_seconds(window.start)}"),
    "timeTo": (1, lambda window, column: f"{column} <= {_seconds(window.end)}"),
    "timeFilter": (1, lambda window, column: _between(column, _seconds, window)),
    "timeFilter_ms": (1, lambda window, column: _between(column, _millis, window)),
    "dateFilter": (1, lambda window, column: _between(column, _day, window)),
    "dateTimeFilter": (2, _date_and_time),
    "dt": (2, _date_and_time),
    "timeInterval": (1, lambda window, column: _start_of(column, max(window.interval, 1))),
    "timeInterval_ms": (
        1,
        lambda window, column: (
            f"toStartOfInterval(toDateTime64({column}, 3), INTERVAL {max(window.interval * 1000, 1)} millisecond)"
        ),
    ),
    "timeGroup": (2, _time_group),
    "interval_s": (0, lambda window: str(max(window.interval, 1))),
}
"""By name: how many arguments, and what comes of them."""


# --- The files ---


def dashboards() -> dict[str, dict[str, Any]]:
    """Return every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def provisioned(name: str) -> dict[str, Any]:
    """Return a provisioning file."""
    content: dict[str, Any] = yaml.safe_load((PROVISIONING / name).read_text(encoding="utf-8"))
    return content


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Iterate over the panels that show data, those in collapsed rows as well."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def variables(dashboard: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the variables by name, in their order."""
    return {each["name"]: each for each in dashboard["templating"]["list"]}
