"""`detections`: the catalogue of detections as plain values, and the run of their cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from worker.apps.errors import UsageError
from worker.detections.registry import UnknownDetectionError, catalogue, detection, detections
from worker.detections.testing import run_cases, shipped_cases

if TYPE_CHECKING:
    from pathlib import Path

    from worker.detections.api import Detection
    from worker.detections.testing import CaseResult


class CaseFailure(NamedTuple):
    """A case that failed; `detection` is empty for a benign case."""

    detection: str
    case: str
    problems: list[str]


class CaseRun(NamedTuple):
    """The number of cases that were run, and those that failed."""

    cases: int
    failed: list[CaseFailure]


def unusable_plugins() -> tuple[str, ...]:
    """Return why each plug-in that is left out of the catalogue cannot be used."""
    return catalogue().broken


def brief_list() -> list[dict[str, Any]]:
    """Return id, title, severity, score, scope and techniques of every detection, in order of ids."""
    return [_brief(each) for each in catalogue().detections.values()]


def _brief(found: Detection[Any]) -> dict[str, Any]:
    return {
        "id": found.id,
        "title": found.title,
        "severity": found.severity.name.lower(),
        "score": found.score,
        "scope": found.scope.value,
        "attacks": [attack.uid for attack in found.attacks],
    }


def details(uid: str) -> dict[str, Any]:
    """Return all metadata of a detection.

    Raises:
        UsageError: there is no detection with that id.
    """
    try:
        found = detection(uid)
    except UnknownDetectionError:
        raise UsageError(f"there is no detection {uid!r}; `sessionwatch detections list` names them") from None
    return {
        **_brief(found),
        "attacks": [{"uid": attack.uid, "name": attack.name} for attack in found.attacks],
        "description": found.description,
        "parameters": found.parameters.model_dump(mode="json"),
        "false_positives": list(found.false_positives),
        "runbook": list(found.runbook),
        "sources": list(found.sources),
    }


def run(folder: Path | None, uids: list[str] | None) -> CaseRun:
    """Run the cases of detections.

    Args:
        folder: the folder of the cases, one file a detection; None: the cases that the package ships.
        uids: ids of the detections; none: all.

    Raises:
        UsageError: there is no such folder, or no cases of a detection.
        BadCaseError: a case cannot be read.
    """
    results = run_cases(_files(folder or shipped_cases(), uids), detections().values())
    return CaseRun(len(results), [_failure(each) for each in results if each.problems])


def _files(cases: Path, uids: list[str] | None) -> list[Path]:
    if not cases.is_dir():
        raise UsageError(f"there is no folder {cases}; give the folder of the cases with --cases")
    files = {path.stem: path for path in sorted(cases.glob("*.yaml"))}
    unknown = [uid for uid in uids or () if uid not in files]
    if unknown:
        raise UsageError(f"there are no cases of {', '.join(unknown)} in {cases}")
    return [files[uid] for uid in uids] if uids else list(files.values())


def _failure(result: CaseResult) -> CaseFailure:
    return CaseFailure(result.case.detection, result.case.name, list(result.problems))
