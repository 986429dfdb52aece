from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from schemas.decoding import decode
from schemas.event import SessionEvent
from schemas.policy import DetectionPolicy, TenantPolicy
from tools import docs
from worker.cli.commands import app
from worker.detections.policies import check_policy
from worker.detections.registry import detections
from worker.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

ROOT = docs.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", docs.DOCUMENTS)
def test_generated_tables_are_current(name: Any) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert docs.rendered(text) == text, "run `python -m tools.docs`"


def test_a_stale_table_is_seen() -> None:
    stale = README.replace("| `web.port` |", "| `web.prot` |")
    assert stale != README
    assert docs.rendered(stale) == README


def test_every_setting_detection_and_metric_has_its_row() -> None:
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for each in settings():
        assert f"| `{each.path}` |" in README
    for uid in detections():
        assert f"| `{uid}` |" in README
    for metric in docs.declared():
        assert docs._name(metric) in operations


def test_every_key_of_a_policy_has_its_row() -> None:
    keys = [*TenantPolicy.model_fields, *(f"detections.<id>.{name}" for name in DetectionPolicy.model_fields)]
    for key in keys:
        assert f"| `{key}` |" in README


def commands() -> set[str]:
    plain = {command.name or command.callback.__name__ for command in app.registered_commands}
    groups = {
        f"{group.name} {command.name or command.callback.__name__}"
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands
    }
    alone = {group.name for group in app.registered_groups if group.typer_instance.info.invoke_without_command is True}
    return plain | groups | alone


def documented() -> set[str]:
    found = set()
    for row in re.findall(r"^\| `sessionwatch ([^`]+)` \|", README, re.MULTILINE):
        name, _, rest = row.partition(" ")
        first = rest.split(" ")[0].replace("\\|", "|")
        group = re.fullmatch(r"[a-z]+(\|[a-z]+)+", first)
        found.update(f"{name} {each}" for each in first.split("|")) if group else found.add(name)
    return found


def test_every_command_is_in_the_table_and_no_other() -> None:
    assert documented() == commands()


def test_examples_of_input_are_accepted() -> None:
    told = README.partition("## What comes in")[2].partition("\n## ")[0]
    examples = re.findall(r"```json\n(.*?)```", told, re.DOTALL)
    assert len(examples) == 3
    events = [decode(each.encode(), record_time=1_772_440_867_500) for each in examples]
    assert all(isinstance(event, SessionEvent) for event in events), events
    assert {event.shape.value for event in events} == {"snapshot", "cloudevents", "debezium"}
    assert {event.session_uid for event in events} == {"8c1f"}


def test_the_example_of_a_policy_is_one() -> None:
    told = README.partition("### Policies")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```json\n(.*?)```", told, re.DOTALL)
    assert check_policy(example).max_sessions == 20


QUERIES = """
import sys
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
client = connect(f"chdb://{sys.argv[1]}")
migrations.up(client)
for query in sys.stdin.read().split("\\0"):
    client.query(query)
    print("ok")
"""


def test_example_queries_run(tmp_path: Path) -> None:
    text = README + (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL) + re.findall(
        r"sessionwatch query .*\"(SELECT .*)\"", text
    )
    assert len(queries) >= 4
    # In a process of its own: chDB opens one directory a process.
    done = subprocess.run(
        [sys.executable, "-c", QUERIES, tmp_path / "store"],
        input="\0".join(queries), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ok"] * len(queries)


def targets(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Any) -> None:
    for target in targets(path):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.name)
def test_decision_records_have_their_parts(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    number = int(path.name[:4])
    assert re.match(rf"# {number}\. \S", text)
    assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences"))
    assert len(text.splitlines()) <= 60
    assert number == 1 or any((path.parent).glob(f"{number - 1:04}-*.md")), "a number is missing"


def test_names_of_topics_in_the_text_are_the_defaults() -> None:
    for each in settings():
        if each.path in ("topics.events", "topics.by_user", "topics.dlq", "topics.findings"):
            assert f"`{each.default}`" in README or f"{each.default}" in README
