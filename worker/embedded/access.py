"""Access to the embedded store: two roles, enforced by the engine's own grants, constraints and limits.

The roles are in the engine's configuration file. A connection takes one role for one statement and never changes it:
`statements.py` refuses statements that could. Neither role can reach beyond the store: files, URLs and other databases
are sources, and no role has a grant on a source.
https://clickhouse.com/docs/operations/access-rights
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DATABASE = "sessionwatch"
"""Database of the tables. The engine's `default` database shows the files of the working directory as tables."""


class Role(StrEnum):
    """The role of a token."""

    READER = "reader"
    WRITER = "writer"


CEILINGS = {
    "max_execution_time": 30.0,
    "max_memory_usage": float(1 << 30),
    "max_threads": 4.0,
    "max_result_rows": 1_000_000.0,
    "max_result_bytes": float(64 << 20),
    "max_temporary_data_on_disk_size_for_query": float(1 << 30),
}
"""Limits of a reader's query: seconds, bytes, threads, rows. A reader may set lower ones."""
FIXED = {"result_overflow_mode": "throw", "timeout_overflow_mode": "throw", "readonly": "1"}
"""Settings applied last for a reader. With `readonly = 1`, nothing is written and no setting can be changed."""
READER_SETTINGS = frozenset([
    *CEILINGS, "max_rows_to_read", "max_bytes_to_read", "max_block_size", "final", "extremes", "join_use_nulls",
    "limit", "offset", "session_timezone", "date_time_input_format", "date_time_output_format",
    "output_format_json_quote_64bit_integers", "output_format_json_quote_decimals",
    "output_format_json_quote_denormals", "output_format_json_named_tuples_as_objects",
    "output_format_pretty_max_rows", "output_format_pretty_color", "output_format_arrow_string_as_string",
    "output_format_parquet_string_as_string", "format_csv_delimiter", "format_csv_null_representation",
    "format_tsv_null_representation", "output_format_csv_crlf_end_of_line", "output_format_write_statistics",
])  # fmt: skip
"""Settings that a reader may send with a request. A statement cannot change settings, because of `readonly`."""
CONSTANT = (
    "format_template_row", "format_template_resultset", "format_template_row_format",
    "format_template_resultset_format", "format_schema", "format_schema_source", "format_schema_message_name",
    "dialect",
)  # fmt: skip
"""Settings that name files, services or another language; no role may change them."""
FORMATS = frozenset([
    "Arrow", "ArrowStream", "Avro", "CSV", "CSVWithNames", "CSVWithNamesAndTypes", "JSON", "JSONColumns",
    "JSONColumnsWithMetadata", "JSONCompact", "JSONCompactColumns", "JSONCompactEachRow",
    "JSONCompactEachRowWithNames", "JSONCompactEachRowWithNamesAndTypes", "JSONCompactStrings",
    "JSONCompactStringsEachRow", "JSONEachRow", "JSONL", "JSONLines", "JSONObjectEachRow", "JSONStrings",
    "JSONStringsEachRow", "LineAsString", "MD", "Markdown", "MsgPack", "NDJSON", "Native", "Null", "ORC", "Parquet",
    "Pretty", "PrettyCompact", "PrettyCompactMonoBlock", "PrettyCompactNoEscapes", "PrettyJSONEachRow",
    "PrettyMonoBlock", "PrettyNoEscapes", "PrettySpace", "PrettySpaceNoEscapes", "RawBLOB", "RowBinary",
    "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "SQLInsert", "TSV", "TSVRaw", "TSVWithNames",
    "TSVWithNamesAndTypes", "TabSeparated", "TabSeparatedRaw", "TabSeparatedWithNames",
    "TabSeparatedWithNamesAndTypes", "Values", "Vertical", "XML",
])  # fmt: skip
"""Allowed formats of answers and of inserted rows: those that do not read a template or a schema from a file."""
TABLE_FUNCTIONS = frozenset({
    "format", "generate_series", "generaterandom", "generateseries", "merge", "null", "numbers", "numbers_mt", "values",
    "view", "viewifpermitted", "zeros", "zeros_mt",
})  # fmt: skip
"""Table functions, in lower case, that read only the store or nothing. All others are refused, some of
which (`sqlite`) act before the engine asks for the grant."""
ENGINES = frozenset({"Atomic", "Memory", "Null", "View", "MaterializedView"})
"""Allowed engines of tables and databases, in addition to the MergeTree family."""

_GRANTS = {
    Role.READER: ("SELECT, SHOW ON *.*",),
    Role.WRITER: (
        "SELECT, SHOW, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, TRUNCATE, OPTIMIZE ON *.*",
        "KILL QUERY ON *.*",
    ),
}
_MEMORY_RATIO = 0.5


def configuration(path: Path) -> str:
    """Return the engine's configuration, to be written to `path`."""
    roles = "".join(f"<{role}><grants>{_queries(grants)}</grants></{role}>" for role, grants in _GRANTS.items())
    constant = "".join(f"<{name}><const/></{name}>" for name in CONSTANT)
    user = "<password/><networks><ip>::/0</ip></networks><quota>default</quota><profile>default</profile>"
    return (
        f"<clickhouse><users_config>{escape(str(path))}</users_config>"
        f"<max_server_memory_usage_to_ram_ratio>{_MEMORY_RATIO}</max_server_memory_usage_to_ram_ratio>"
        f"<profiles><default><constraints>{constant}</constraints></default></profiles><quotas><default/></quotas>"
        f"<roles>{roles}</roles>"
        f"<users><default>{user}<grants><query>GRANT {', '.join(Role)}</query></grants></default></users></clickhouse>"
    )


def _queries(grants: tuple[str, ...]) -> str:
    return "".join(f"<query>GRANT {each}</query>" for each in grants)


def limited(settings: Mapping[str, str], ceilings: Mapping[str, float] = CEILINGS) -> dict[str, str]:
    """Return the settings of a reader's query.

    Args:
        settings: the settings of the request.
        ceilings: the limits of a query.

    A value above a limit is lowered to the limit, because clients send their own defaults.

    Raises:
        ValueError: a setting is not allowed, or its value is not a limit.
    """
    for name in settings:
        if name not in READER_SETTINGS:
            raise ValueError(f"setting {name!r} cannot be given by a reader")
    asked = {name: _lowered(name, value, ceilings) for name, value in settings.items()}
    return {**{name: f"{value:.0f}" for name, value in ceilings.items()}, **asked, **FIXED}


def _lowered(name: str, value: str, ceilings: Mapping[str, float]) -> str:
    if name not in ceilings:
        return value
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ValueError(f"setting {name} must be above 0, at most {ceilings[name]:.0f}")
    return value if number <= ceilings[name] else f"{ceilings[name]:.0f}"
