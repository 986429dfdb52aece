"""`sessionwatch doctor`: checks everything the worker needs, and says how to fix what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.text import printable
from worker.apps.errors import OK
from worker.cli.common import Json, output, print_json, settings_of

if TYPE_CHECKING:
    from worker.apps.doctor import Check

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def doctor(
    context: typer.Context,
    *,
    with_settings: Annotated[bool, typer.Option("--settings", help="Show the settings in force, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check everything the worker needs."""
    from worker.apps.doctor import exit_code, run_checks  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    found = []
    if with_settings and not as_json:
        _show_settings(settings.effective())
    for check in run_checks(settings, datetime.now(UTC)):
        found.append(check)
        if not as_json:
            _show(check)
    code = exit_code(found)
    if as_json:
        print_json({"ok": code == OK, "checks": [_plain(each) for each in found], "settings": settings.effective()})
    else:
        failed = [each.name for each in found if each.status == "fail"]
        output(f"\n{len(failed)} of {len(found)} checks failed: {', '.join(failed)}" if failed else "\nno check failed")
    raise typer.Exit(code)


def _plain(check: Check) -> dict[str, str]:
    return {"name": check.name, "status": check.status, "message": check.message, "advice": check.advice}


def _show(check: Check) -> None:
    mark, colour = _MARKS[check.status]
    typer.echo(f"{typer.style(mark, fg=colour)} {printable(f'{check.name}: {check.message}')}")
    if check.advice:
        output(f"     -> {check.advice}")


def _show_settings(effective: dict[str, str]) -> None:
    output("settings in force")
    for name, value in effective.items():
        output(f"  {name} = {value}")
    output("")
