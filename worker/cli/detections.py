"""`sessionwatch detections`: the catalogue and its cases."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.common import Json, output, print_json, say
from worker.cli.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from worker.detections.api import Detection
    from worker.detections.testing import CaseResult

app = typer.Typer(help="The catalogue of detections, and its cases.", no_args_is_help=True)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List every detection."""
    from worker.detections.registry import catalogue  # noqa: PLC0415  `--help` needs none of it

    for reason in catalogue().broken:
        say(f"warning: {reason}")
    found = [_brief(each) for each in catalogue().detections.values()]
    if as_json:
        print_json({"detections": found})
        return
    for each in found:
        output(f"{each['id']:24} {each['severity']:14} {each['title']}")


def _brief(detection: Detection[Any]) -> dict[str, Any]:
    return {
        "id": detection.id,
        "title": detection.title,
        "severity": detection.severity.name.lower(),
        "score": detection.score,
        "scope": detection.scope.value,
        "attacks": [attack.uid for attack in detection.attacks],
    }


@app.command()
def show(
    uid: Annotated[str, typer.Argument(metavar="ID", help="For example impossible-travel.")],
    *,
    as_json: Json = False,
) -> None:
    """Show one detection: what it flags, its parameters, false positives and runbook."""
    from worker.detections.registry import UnknownDetectionError, detection  # noqa: PLC0415  as above

    try:
        found = detection(uid)
    except UnknownDetectionError:
        raise UsageError(f"there is no detection {uid!r}; `sessionwatch detections list` names them") from None
    if as_json:
        print_json(_whole(found))
    else:
        output(_page(found))


def _whole(detection: Detection[Any]) -> dict[str, Any]:
    return {
        **_brief(detection),
        "attacks": [{"uid": attack.uid, "name": attack.name} for attack in detection.attacks],
        "description": detection.description,
        "parameters": detection.parameters.model_dump(mode="json"),
        "false_positives": list(detection.false_positives),
        "runbook": list(detection.runbook),
        "sources": list(detection.sources),
    }


def _page(detection: Detection[Any]) -> str:
    parameters = detection.parameters.model_dump(mode="json")
    parts = {
        "Parameters": [f"{name} = {value}" for name, value in parameters.items()],
        "ATT&CK": [f"{attack.uid} {attack.name}" for attack in detection.attacks],
        "False positives": detection.false_positives,
        "Runbook": [f"{number}. {step}" for number, step in enumerate(detection.runbook, 1)],
        "Sources": detection.sources,
    }
    head = f"{detection.id}: {detection.title} ({detection.severity.name.lower()}, {detection.score})"
    body = "".join(
        f"\n\n{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items() if lines
    )
    return f"{head}\n\n{detection.description}{body}"


@app.command("test")
def run(
    uids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which; without any: all.")] = None,
    *,
    cases: Annotated[
        Path | None, typer.Option(help="Folder of the cases, one file a detection; without it: those shipped.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the cases of the detections; fails when one does not come out as expected."""
    from worker.detections.registry import detections  # noqa: PLC0415  `--help` needs none of it
    from worker.detections.testing import run_cases, shipped_cases  # noqa: PLC0415

    results = run_cases(_files(cases or shipped_cases(), uids), detections().values())
    failed = [each for each in results if each.problems]
    if as_json:
        print_json({"cases": len(results), "failed": [_result(each) for each in failed]})
    else:
        for each in failed:
            output(f"{each.case.detection or 'benign'}: {each.case.name}\n  " + "\n  ".join(each.problems))
        say(f"{len(results)} cases, {len(failed)} failed")
    if failed:
        raise CheckFailedError(f"{len(failed)} of {len(results)} cases failed")


def _files(cases: Path, uids: list[str] | None) -> list[Path]:
    if not cases.is_dir():
        raise UsageError(f"there is no folder {cases}; give the folder of the cases with --cases")
    files = {path.stem: path for path in sorted(cases.glob("*.yaml"))}
    unknown = [uid for uid in uids or () if uid not in files]
    if unknown:
        raise UsageError(f"there are no cases of {', '.join(unknown)} in {cases}")
    return [files[uid] for uid in uids] if uids else list(files.values())


def _result(result: CaseResult) -> dict[str, Any]:
    return {"detection": result.case.detection, "case": result.case.name, "problems": list(result.problems)}
