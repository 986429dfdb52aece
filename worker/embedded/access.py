"""Who may do what with the embedded store: two roles, enforced by the engine's own grants, constraints and limits.

The engine obeys a configuration file with roles. A connection takes one role for one statement and never changes it
back: `statements.py` lets no statement through that could. Neither role may reach beyond the store: files, URLs and
other databases are sources, and no source is granted to anybody.
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
"""Where the tables are. The engine's `default` database shows the files of the working directory as tables."""


class Role(StrEnum):
    """What a token stands for."""

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
"""What a reader's query may take at most: seconds, bytes, threads, rows. A reader may ask for less."""
FIXED = {"result_overflow_mode": "throw", "timeout_overflow_mode": "throw", "readonly": "1"}
"""What is set for a reader last. `readonly = 1`: nothing is written, and no setting is changed from then on."""
READER_SETTINGS = frozenset([
    *CEILINGS, "max_rows_to_read", "max_bytes_to_read", "max_block_size", "final", "extremes", "join_use_nulls",
    "limit", "offset", "session_timezone", "date_time_input_format", "date_time_output_format",
    "output_format_json_quote_64bit_integers", "output_format_json_quote_decimals",
    "output_format_json_quote_denormals", "output_format_json_named_tuples_as_objects",
    "output_format_pretty_max_rows", "output_format_pretty_color", "output_format_arrow_string_as_string",
    "output_format_parquet_string_as_string", "format_csv_delimiter", "format_csv_null_representation",
    "format_tsv_null_representation", "output_format_csv_crlf_end_of_line", "output_format_write_statistics",
])  # fmt: skip
"""Settings a reader may give with a request. In the statement itself, `readonly` lets no setting be changed."""
CONSTANT = (
    "format_template_row", "format_template_resultset", "format_template_row_format",
    "format_template_resultset_format", "format_schema", "format_schema_source", "format_schema_message_name",
    "dialect",
)  # fmt: skip
"""Settings that name files, services or another language; nobody changes them."""
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
"""Formats of answers and of inserted rows. Those that read a template or a schema from a file are not among them."""
TABLE_FUNCTIONS = frozenset({
    "format", "generate_series", "generaterandom", "generateseries", "merge", "null", "numbers", "numbers_mt", "values",
    "view", "viewifpermitted", "zeros", "zeros_mt",
})  # fmt: skip
"""Table functions, in lower case, that read what is in the store or nothing at all. All others are refused, some of
which (`sqlite`) act before the engine asks for the grant."""
ENGINES = frozenset({"Atomic", "Memory", "Null", "View", "MaterializedView"})
"""Engines of tables and databases beside the family of MergeTree."""

_GRANTS = {
    Role.READER: ("SELECT, SHOW ON *.*",),
    Role.WRITER: (
        "SELECT, SHOW, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, TRUNCATE, OPTIMIZE ON *.*",
        "KILL QUERY ON *.*",
    ),
}
_MEMORY_RATIO = 0.5


def configuration(path: Path) -> str:
    """Return the engine's configuration, which will be the file at `path`."""
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
    """Return what is set for a reader who asks for settings.

    Args:
        settings: what the reader asks for.
        ceilings: what a query may take at most.

    What exceeds a ceiling is lowered to it: clients ask for their own defaults.

    Raises:
        ValueError: one of them may not be given, or its value is no limit.
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
