"""`sessionwatch detections`: the catalogue and its cases."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="The catalogue of detections, and its cases.", no_args_is_help=True)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List every detection."""
    from worker.apps import detections as program  # noqa: PLC0415  `--help` needs none of it

    for reason in program.unusable_plugins():
        say(f"warning: {reason}")
    found = program.brief_list()
    if as_json:
        print_json({"detections": found})
        return
    for each in found:
        output(f"{each['id']:24} {each['severity']:14} {each['title']}")


@app.command()
def show(
    uid: Annotated[str, typer.Argument(metavar="ID", help="For example impossible-travel.")],
    *,
    as_json: Json = False,
) -> None:
    """Show one detection: what it flags, its parameters, false positives and runbook."""
    from worker.apps import detections as program  # noqa: PLC0415  `--help` needs none of it

    found = program.details(uid)
    if as_json:
        print_json(found)
    else:
        output(_page(found))


def _page(found: Mapping[str, Any]) -> str:
    parts = {
        "Parameters": [f"{name} = {value}" for name, value in found["parameters"].items()],
        "ATT&CK": [f"{attack['uid']} {attack['name']}" for attack in found["attacks"]],
        "False positives": found["false_positives"],
        "Runbook": [f"{number}. {step}" for number, step in enumerate(found["runbook"], 1)],
        "Sources": found["sources"],
    }
    head = f"{found['id']}: {found['title']} ({found['severity']}, {found['score']})"
    body = "".join(
        f"\n\n{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items() if lines
    )
    return f"{head}\n\n{found['description']}{body}"


@app.command("test")
def run(
    uids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which; without any: all.")] = None,
    *,
    cases: Annotated[
        Path | None, typer.Option(help="Folder of the cases, one file a detection; without it: those shipped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the cases of the detections; fails when the result of a case is not the expected one."""
    from worker.apps import detections as program  # noqa: PLC0415  `--help` needs none of it

    done = program.run(cases, uids)
    if as_json:
        print_json({"cases": done.cases, "failed": [each._asdict() for each in done.failed]})
    else:
        for each in done.failed:
            output(f"{each.detection or 'benign'}: {each.case}\n  " + "\n  ".join(each.problems))
        say(f"{done.cases} cases, {len(done.failed)} failed")
    if done.failed:
        raise CheckFailedError(f"{len(done.failed)} of {done.cases} cases failed")
