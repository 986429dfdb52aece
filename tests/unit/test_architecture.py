"""The arrows between the rooms point one way; the heart does no I/O and reads no clock."""

from __future__ import annotations

import ast
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(chain((ROOT / "worker").rglob("*.py"), (ROOT / "schemas").rglob("*.py")))

# Room -> rooms it may import from, beside itself. A room is the longest prefix of a module's name found here.
CORE = {"schemas", "worker.enrich", "worker.sessions", "worker.detections", "worker.pipeline"}
ARROWS: dict[str, set[str]] = {
    "schemas": set(),
    "worker.enrich": {"schemas"},
    "worker.sessions": {"schemas", "worker.enrich"},
    "worker.detections": {"schemas", "worker.enrich", "worker.sessions"},
    "worker.pipeline": {"schemas", "worker.enrich", "worker.sessions", "worker.detections"},
    "worker.simulator": {"schemas"},
    "worker.alerts.config": {"schemas"},
    "worker.alerts": {"schemas", "worker.observe", "worker.alerts.config"},
    "worker.settings": {"schemas", "worker.alerts.config", "worker.pipeline", "worker.sessions", "worker.observe"},
    "worker.observe": CORE,
    "worker.clickhouse": {"schemas", "worker.pipeline", "worker.observe", "worker.settings"},
    "worker.stream": CORE | {"worker.observe", "worker.settings"},
    "worker.embedded": {"schemas", "worker.clickhouse", "worker.observe", "worker.settings", "worker.stream"},
}
# Puts everything together: it may import anything but the commands, and only the commands may import it.
COMPOSITION = "worker.apps"
# A command parses options and prints results. The rest is in `worker.apps`.
COMMANDS = "worker.cli"
COMMANDS_IMPORT = {"schemas", "worker.settings", "worker.observe", "worker.apps", "worker.cli"}
PURE = ("schemas", "worker.sessions", "worker.detections", "worker.pipeline",
        *(f"worker.alerts.{name}" for name in (
            "alert", "breaker", "digest", "escaping", "guard", "limiter", "message", "outbox", "outcome", "rendering",
            "routing", "schedule", "tenants")))  # fmt: skip
# Files of a pure room that are tools around it, not part of it.
TOOLS = {"worker.detections.testing"}
# What does I/O or tells the time; `enrich` reads the databases it is given and nothing else.
NETWORK = {"faust", "mode", "aiokafka", "aiohttp", "clickhouse_connect", "chdb", "socket", "ssl", "http", "urllib",
           "urllib3", "requests", "subprocess", "asyncio"}  # fmt: skip
IMPURE = NETWORK | {
    "time",
    "random",
    "secrets",
    "uuid",
    "os",
    "sys",
    "threading",
    "logging",
    "structlog",
    "tempfile",
}
# Modules of a network library that only compute.
COMPUTING_MODULES = {"aiokafka.partitioner", "urllib.parse"}
# Of `socket`, what only computes.
COMPUTES = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
SIDE_EFFECTS = {"open", "print", "input", "exec", "eval"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(tree: ast.Module) -> set[str]:
    """Every module a tree imports; `from package import module` counts as the module where it is one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "socket" and _names(node) <= COMPUTES:
            continue
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative imports hide where an arrow points"
            found.update(_from(node.module, alias.name) for alias in node.names)
    return found


def _names(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def _from(module: str, name: str) -> str:
    inner = ROOT.joinpath(*module.split("."), f"{name}.py")
    package = ROOT.joinpath(*module.split("."), name, "__init__.py")
    return f"{module}.{name}" if inner.exists() or package.exists() else module


def room_of(module: str) -> str | None:
    rooms = [*ARROWS, COMPOSITION, COMMANDS]
    fitting = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def broken_arrows(module: str, imported: set[str]) -> set[str]:
    room = room_of(module)
    assert room is not None or module == "worker", f"{module} is in no room; say in ARROWS what it may import"
    ours = {other for other in imported if other.split(".")[0] in {"worker", "schemas"} and other != "worker"}
    if room == COMPOSITION:
        return {other for other in ours if room_of(other) == COMMANDS}
    allowed = COMMANDS_IMPORT if room == COMMANDS else {room, *ARROWS.get(room or "", set())}
    return {other for other in ours if room_of(other) not in allowed}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_arrows_point_one_way(path: Any) -> None:
    assert not broken_arrows(name_of(path), imports_of(tree_of(path)))


def test_a_wrong_arrow_is_seen() -> None:
    tree = ast.parse("def lazily():\n    from worker.stream import app\n")
    assert broken_arrows("worker.sessions.fold", imports_of(tree)) == {"worker.stream.app"}
    assert broken_arrows("schemas.event", {"worker.pipeline.ports"}) == {"worker.pipeline.ports"}
    assert broken_arrows("worker.apps.demo", {"worker.cli.common", "worker.apps.live"}) == {"worker.cli.common"}
    assert broken_arrows("worker.cli.topics", {"worker.stream.topics", "worker.apps.run"}) == {"worker.stream.topics"}
    assert broken_arrows("worker.cli.query", {"worker.clickhouse.query"}) == {"worker.clickhouse.query"}
    assert broken_arrows("worker.stream.app", {"worker.embedded.broker"}) == {"worker.embedded.broker"}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import one another, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph.get(node, ()):
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def module_graph() -> dict[str, set[str]]:
    names = {name_of(path) for path in SOURCES}
    return {name_of(path): imports_of(tree_of(path)) & names - {name_of(path)} for path in SOURCES}


def test_no_modules_import_one_another() -> None:
    assert circles(module_graph()) == []


def test_no_rooms_import_one_another() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in module_graph().items():
        here = room_of(module) or module
        rooms.setdefault(here, set()).update({room_of(other) or other for other in imported} - {here})
    assert circles(rooms) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"a"}}) == [["a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    imported = imports_of(ast.parse("if TYPE_CHECKING:\n    from worker.sessions.fold import step\n"))
    assert imported == {"worker.sessions.fold"}, "a circle of annotations is one as well"


def test_a_class_name_stands_once() -> None:
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def side_effects(tree: ast.Module, forbidden: set[str]) -> set[str]:
    found = {module for module in imports_of(tree) - COMPUTING_MODULES if module.split(".")[0] in forbidden}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in SIDE_EFFECTS:
                found.add(function.id)
            if isinstance(function, ast.Attribute) and function.attr in CLOCKS and not node.args:
                found.add(ast.unparse(function))
    return found


def is_pure(module: str) -> bool:
    return module not in TOOLS and any(module == room or module.startswith(f"{room}.") for room in PURE)


@pytest.mark.parametrize("path", [path for path in SOURCES if is_pure(name_of(path))], ids=name_of)
def test_the_heart_does_no_io_and_reads_no_clock(path: Any) -> None:
    assert not side_effects(tree_of(path), IMPURE)


@pytest.mark.parametrize("path", [path for path in SOURCES if name_of(path).startswith("worker.enrich")], ids=name_of)
def test_enrichment_has_no_network(path: Any) -> None:
    assert not {module for module in imports_of(tree_of(path)) if module.split(".")[0] in NETWORK}


def test_a_side_effect_is_seen() -> None:
    assert side_effects(ast.parse("from datetime import datetime\nx = datetime.now()"), IMPURE) == {"datetime.now"}
    assert side_effects(ast.parse("import time"), IMPURE) == {"time"}
    assert side_effects(ast.parse("from socket import create_connection"), IMPURE) == {"socket"}
    assert side_effects(ast.parse("open('x')"), IMPURE) == {"open"}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring aside."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def function_lengths() -> dict[str, int]:
    return {
        f"{name_of(path)}:{node.name}:{node.lineno}": body_lines(node)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_are_short() -> None:
    lengths = function_lengths()
    long = {name: lines for name, lines in lengths.items() if lines >= 20}
    assert len(long) * 10 <= len(lengths), sorted(long.items(), key=lambda item: -item[1])
    assert median(lengths.values()) <= 6
