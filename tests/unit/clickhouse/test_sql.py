"""Values never become part of SQL: every statement is a constant, or put together from names listed here."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUNS = {"query", "command", "raw_query", "raw_insert", "raw_stream", "insert"}
# What statements are put together from, by file; each is no value, or one somebody hands in as a statement.
ALLOWED = {
    "worker/clickhouse/erasure.py": {"table", "where", "delete"},  # constants of the module, and the layout's database
    "worker/clickhouse/rollups.py": {
        "sql",
        "select",
        "views[view]",
    },  # constants of the module, and the views' own text
    "worker/apps/stored_events.py": {"_EVENTS", "_KNOWN"},  # constants of the module, put together from its columns
    "worker/clickhouse/migrations.py": {"statement"},  # the package's own files
    "worker/clickhouse/writer.py": {"table"},  # a key of schemas.clickhouse.tables
    "worker/clickhouse/query.py": {"statement"},  # `sessionwatch query SQL`
    # The embedded engine's HTTP interface: identifiers checked, values quoted, and the statement somebody asks for.
    "worker/embedded/engine.py": {
        "DATABASE",
        "role",
        "sql",
        "_quoted(database, '`')",
        "name",
        "_quoted(value, _QUOTE)",
        "listed",
        "statements.from_file(normal, _quoted(path, _QUOTE))",
    },
}


def statements(source: str) -> list[tuple[int, ast.expr]]:
    """Return what is given to a client to run, with its line."""
    return [
        (call.lineno, call.args[0])
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args
        if call.func.attr in RUNS or call.func.attr.startswith("query_")
    ]


def parts(expression: ast.expr, constants: set[str]) -> set[str]:
    """Return what a statement is put together from that is no constant."""
    match expression:
        case ast.Constant():
            return set()
        case ast.Name(id=name) if name in constants:
            return set()
        case ast.JoinedStr(values=values):
            return set().union(*(parts(each, constants) for each in values))
        case ast.FormattedValue(value=value):
            return parts(value, constants)
    return {ast.unparse(expression)}


def unlisted(source: str, allowed: set[str]) -> list[str]:
    fixed = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    constants = {ast.unparse(node.targets[0]) for node in fixed if isinstance(node.value, ast.Constant)}
    return [
        f"line {line}: {part}"
        for line, expression in statements(source)
        for part in sorted(parts(expression, constants) - allowed)
    ]


def test_no_statement_is_put_together_from_values() -> None:
    found = {}
    for path in sorted((ROOT / "worker").rglob("*.py")):
        name, source = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        # Who does not speak to the store calls other things `insert`.
        if "clickhouse" in source.lower() or "chdb" in source:
            found[name] = unlisted(source, ALLOWED.get(name, set()))
    assert {name: wrong for name, wrong in found.items() if wrong and not _is_command_line(name)} == {}
    assert ALLOWED.keys() <= found.keys()


def _is_command_line(name: str) -> bool:
    """Typer's `app.command("list")` is another `command`; there are only such in `worker/cli`, and no clients."""
    source = (ROOT / name).read_text("utf-8")
    return name.startswith("worker/cli/") and all(isinstance(each, ast.Constant) for _, each in statements(source))


def test_what_is_put_together_is_seen() -> None:
    for wrong in ('f"SELECT {user}"', '"SELECT %s" % user', '"SELECT {}".format(user)', '"SELECT " + user', "text"):
        assert unlisted(f"client.query({wrong})", set()), wrong
    assert unlisted('client.query_df(f"SELECT {user}")', set())
    assert unlisted('SQL = "SELECT 1"\nclient.query(SQL, parameters={"user": user})', set()) == []
