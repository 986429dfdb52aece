"""What records hold cannot steer a terminal, whichever command prints them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from worker.apps.errors import error_line
from worker.cli.common import output, print_json, say
from worker.observe.logs import configure

HOSTILE = "eve\x1b]0;owned\x07\x9b2J\u202egnp.exe\rdone"
HARMFUL = set("\x1b\x07\x9b\u202e\r")
ROOT = Path(__file__).parents[3]


def test_lines_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    output(f"a\t{HOSTILE}\nb")
    say(HOSTILE)
    found = capsys.readouterr()
    assert not HARMFUL & set(found.out + found.err)
    assert found.out.startswith("a\teve?")
    assert not HARMFUL & set(error_line(ValueError(HOSTILE)))


def test_json_is_escaped_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"user": HOSTILE, "rare": "\U000e0001", "name": "Žofie"}
    print_json(given)
    found = capsys.readouterr().out
    assert not HARMFUL & set(found)
    assert "Žofie" in found
    assert json.loads(found) == given


@pytest.mark.parametrize("form", ["console", "json"])
def test_logs_are_cleaned(form: str) -> None:
    import logging  # noqa: PLC0415  of this test alone

    import structlog  # noqa: PLC0415

    out = io.StringIO()
    configure("info", form, out)  # type: ignore[arg-type]
    structlog.get_logger("x").warning(HOSTILE, why=HOSTILE)
    logging.getLogger("library").warning("%s", HOSTILE)
    assert not HARMFUL & set(out.getvalue())
    assert "eve" in out.getvalue()


def test_commands_print_through_the_cleaning() -> None:
    """Of all commands only `doctor` styles what it prints itself; it cleans it first."""
    direct = {path.name for path in (ROOT / "worker" / "cli").glob("*.py") if "typer.echo(" in path.read_text("utf-8")}
    assert direct <= {"commands.py", "common.py", "doctor.py"}
