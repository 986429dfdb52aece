"""What does not fit Grafana's own schema: fields, values and types, by the models of grafana-foundation-sdk.

The models themselves drop what they do not know without a word. The queries of the ClickHouse data source are none of
theirs: their fields are those of `src/types/sql.ts` and `src/data/CHVariableSupport.tsx` of the plug-in.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType
from typing import Any, Literal, TypedDict

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.runtime import panelcfg_config
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard, expr, prometheus

from tests.support.grafana import PLUGIN

plugins.register_default_plugins()


class SqlQuery(TypedDict, total=False):
    """A target of the ClickHouse data source with `editorType: sql`."""

    refId: str
    hide: bool
    key: str
    datasource: dashboard.DataSourceRef
    queryType: Literal["table", "logs", "timeseries", "traces"]
    pluginVersion: str
    editorType: Literal["sql"]
    rawSql: str
    # Of grafana/sqlds: time series, table, logs, trace, multi.
    format: Literal[0, 1, 2, 3, 4]
    meta: dict[str, Any]
    expand: bool


class VariableQuery(TypedDict, total=False):
    """What fills a variable from the ClickHouse data source."""

    refId: str
    queryType: Literal["sql", "databases", "tables", "columns", "columnValues"]
    rawSql: str
    database: str
    table: str
    column: str
    mapKey: str
    columnIsMap: bool


QUERIES: Mapping[str, type] = {
    PLUGIN: SqlQuery,
    "prometheus": prometheus.Dataquery,
    "__expr__": expr.TypeThreshold,
}


def misfits(kind: Any, value: Any, path: str = "") -> Iterator[str]:
    """Iterate over what of a JSON value is not as `kind` has it, as path and complaint."""
    origin = typing.get_origin(kind)
    if kind in (Any, object) or isinstance(kind, typing.TypeVar):
        return
    if kind is Dataquery:
        yield from misfits(QUERIES[value["datasource"]["type"]], value, path)
    elif origin is typing.Union:
        yield from _union(typing.get_args(kind), value, path)
    elif origin is Literal:
        yield from _unless(value in typing.get_args(kind), path, value, kind)
    elif origin in (list, dict):
        yield from _collection(kind, value, path)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        yield from _unless(value in {each.value for each in kind}, path, value, kind)
    elif typing.is_typeddict(kind) or hasattr(kind, "to_json"):
        yield from _model(kind, value, path)
    else:
        wanted = (int, float) if kind is float else kind
        yield from _unless(
            isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)), path, value, kind
        )


def _unless(fits: bool, path: str, value: Any, kind: Any) -> Iterator[str]:  # noqa: FBT001
    if not fits:
        yield f"{path}: {value!r} is no {kind}"


def _union(kinds: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    if value is None and NoneType in kinds:
        return
    found = [list(misfits(kind, value, path)) for kind in kinds if kind is not NoneType]
    yield from min(found, key=len)


def _collection(kind: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, typing.get_origin(kind)):
        yield f"{path}: {value!r} is no {kind}"
        return
    for key, each in enumerate(value) if isinstance(value, list) else value.items():
        yield from misfits(typing.get_args(kind)[-1], each, f"{path}/{key}")


def _model(kind: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no {kind}"
        return
    known = fields(kind)
    for key, each in value.items():
        if key not in known:
            yield f"{path}/{key}: {kind.__name__} has no such field"
        else:
            yield from misfits(known[key], each, f"{path}/{key}")
    if kind is dashboard.Panel:
        yield from _panel(value, path)


@cache
def fields(kind: Any) -> dict[str, Any]:
    """Return the fields a model writes as JSON, and their types."""
    hints = typing.get_type_hints(kind)
    if typing.is_typeddict(kind):
        return hints
    model = kind.__new__(kind)
    for name in hints:
        setattr(model, name, name)
    return {key: hints.get(name, Any) for key, name in model.to_json().items()}


def _panel(panel: Mapping[str, Any], path: str) -> Iterator[str]:
    """What the schema of panels leaves to the kind of panel: options, custom fields, and what overrides set."""
    config = panelcfg_config(panel["type"])
    if config is None:
        yield f"{path}: there is no panel of type {panel['type']}"
        return
    yield from misfits(_made_by(config.options_from_json_hook), panel["options"], f"{path}/options")
    custom = _made_by(config.field_config_from_json_hook)
    given = panel["fieldConfig"]
    yield from misfits(custom, given["defaults"].get("custom", {}), f"{path}/fieldConfig/defaults/custom")
    for override in given["overrides"]:
        for each in override["properties"]:
            known = fields(dashboard.FieldConfig) | {f"custom.{key}": kind for key, kind in fields(custom).items()}
            where = f"{path}/overrides/{override['matcher']['options']}/{each['id']}"
            if each["id"] not in known:
                yield f"{where}: there is no such field"
            else:
                yield from misfits(known[each["id"]], each["value"], where)


class _Nothing:
    """The custom fields of a panel that has none."""

    def to_json(self) -> dict[str, Any]:
        return {}


def _made_by(hook: Any) -> Any:
    return hook.__self__ if hook else _Nothing
