from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from schemas.finding import Activity, Finding, Severity, Status
from tools import false_alerts
from worker.apps.collecting import AFTER_MS, Collected
from worker.apps.lives import POLICIES
from worker.apps.scoring import Tally, score
from worker.cli import run

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_790_000_000_000


def finding(uid: str, **changes: Any) -> Finding:
    known: dict[str, Any] = {
        "activity": Activity.CREATE, "status": Status.NEW, "detection": "ip-change", "title": "", "description": "",
        "severity": Severity.MEDIUM, "risk_score": 50, "attacks": (), "runbook": (), "tenant_id": "acme",
        "user_id": "u", "session_uid": "s", "subject": "", "summary": "moved", "bucket_time": T0, "event_time": T0,
        "last_event_time": T0, "detected_at": T0, "count": 1, "revision": 1, "suppressed_by": (), "shadow": False,
        "evidence": b'{"observed": {}}', "source": ("t", 0, 0),
    }  # fmt: skip
    return Finding(uid=uid, **{**known, **changes})


def attack(**changes: Any) -> dict[str, Any]:
    known = {"attack": "theft", "variant": "far", "instance": "1", "users": [["acme", "u"]], "event_time": T0,
             "until": T0 + 1_000, "expected": ["ip-change"], "allowed": ["new-network"], "complete": True}  # fmt: skip
    return {**known, **changes}


def benign(session: str, *classes: str, **allowed: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): severity for name, severity in allowed.items()}
    return {"tenant_id": "acme", "session_uid": session, "classes": classes, "allowed": named}


def judged(*findings: Finding, attacks: Any = (), benign: Any = ()) -> Any:
    collected = Collected(9, {each.uid: each for each in findings})
    return score(collected, {"attacks": list(attacks), "benign": list(benign)})


def test_an_attack_is_found_by_what_it_was_to_raise_near_its_time() -> None:
    result = judged(finding("a"), finding("b", detection="new-network"), attacks=[attack()])
    tally = result.detections["ip-change"]
    assert (tally.attacks, tally.found, tally.right, tally.wrong) == (1, 1, 1, 0)
    assert (tally.recall, tally.precision) == (1.0, 1.0)
    assert result.detections["new-network"].right == 1
    assert result.detections["new-network"].recall is None


@pytest.mark.parametrize(
    "other",
    [
        {"detection": "device-change"},
        {"user_id": "v"},
        {"tenant_id": "other"},
        {"event_time": T0 + AFTER_MS + 2_000, "last_event_time": T0 + AFTER_MS + 2_000},
        {"activity": Activity.CLOSE, "status": Status.CLOSED},
    ],
)
def test_what_is_about_something_else_finds_nothing(other: dict[str, Any]) -> None:
    tally = judged(finding("a", **other), attacks=[attack()]).detections["ip-change"]
    assert (tally.attacks, tally.found, tally.recall) == (1, 0, 0.0)
    assert tally.missed


def test_an_attack_cut_off_by_the_end_is_not_held_against_recall() -> None:
    assert judged(attacks=[attack(complete=False)]).detections == {}


def test_a_crowd_is_found_by_its_members() -> None:
    crowd = finding("a", user_id="", session_uid="", evidence=b'{"observed": {"users": ["v", "u"]}}')
    assert judged(crowd, attacks=[attack()]).detections["ip-change"].recall == 1.0


def test_what_nothing_explains_is_wrong_and_an_alert_of_its_class() -> None:
    labels = [benign("s", "roaming"), benign("other", "roaming", "cgnat")]
    result = judged(finding("a"), benign=labels)
    tally = result.detections["ip-change"]
    assert (tally.right, tally.wrong, tally.precision) == (0, 1, 0.0)
    assert "moved" in tally.wrongs[0]
    assert (result.benign["roaming"].sessions, result.benign["roaming"].alerts) == (2, 1)
    assert (result.benign["cgnat"].sessions, result.benign["cgnat"].alerts) == (1, 0)
    assert result.total.per_thousand == 500.0
    assert len(result.below_the_bar()) == 2


def test_what_a_definition_asks_for_is_neither_right_nor_wrong_and_still_an_alert() -> None:
    result = judged(finding("a"), benign=[benign("s", "flight", ip_change="medium")])
    assert result.detections["ip-change"] == Tally(by_definition=1)
    assert result.total.alerts == 1
    beyond = judged(finding("a", severity=Severity.HIGH), benign=[benign("s", "flight", ip_change="medium")])
    assert beyond.detections["ip-change"].wrong == 1


def test_the_quiet_ones_count_nowhere() -> None:
    quiet = finding("a", severity=Severity.INFORMATIONAL), finding("b", status=Status.SUPPRESSED)
    result = judged(*quiet, benign=[benign("s", "roaming")])
    assert result.detections == {}
    assert result.total.alerts == 0
    assert judged(finding("c", severity=Severity.LOW), benign=[benign("s", "roaming")]).total.alerts == 0
    assert result.below_the_bar() == []


def test_the_command_gives_the_same_figures_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found, record = [], tmp_path / "record.json"
    size = ["--users", "20", "--attacks", "1", "--people", "3", "--days", "28", "--thefts", "1", "--seed", "4"]
    for _ in range(2):
        assert run(["evaluate", *size, "--save", str(record), "--json"]) == 0
        found.append((json.loads(capsys.readouterr().out), record.read_bytes()))
    assert found[0] == found[1]
    figures, _ = found[0]
    assert figures["events"] > 5_000
    assert figures["total"]["sessions"] > 2_000
    assert sum(each["found"] for each in figures["detections"].values()) > 20
    assert figures["incidents_per_attack"] >= 1
    assert set(figures["lives"]) == set(POLICIES)
    assert all(report["sessions"] > 400 and report["user_days"] > 300 for report in figures["lives"].values())
    assert false_alerts.problems(json.loads(record.read_bytes())) == []
