from __future__ import annotations

from typing import Any

import pytest

from schemas.finding import Activity, Finding, Severity, Status
from tests.unit.apps.test_evaluate import T0, finding
from tools import false_alerts
from worker.apps.collecting import Collected
from worker.apps.lives import AFTER_MS, BARS, DAY_MS, POLICIES, PolicyReport, judge_lives

LATER = T0 + 3 * DAY_MS


def user(name: str, *traits: str, days: int = 10) -> dict[str, Any]:
    return {"tenant_id": "acme", "user_id": name, "persona": "office", "traits": list(traits), "days": days}


THEFT = {"attack": "cloned", "tenant_id": "acme", "user_id": "u", "session_uid": "s", "since": T0, "until": T0 + 1_000}


def judged(*findings: Finding, attacks: Any = (), policy: str = "default") -> PolicyReport:
    labels = {
        "start_ms": T0, "end_ms": T0 + 14 * DAY_MS, "sessions": 40, "attacks": list(attacks),
        "users": [user("u", "travels"), user("v"), user("absent", days=0)],
    }  # fmt: skip
    return judge_lives(policy, Collected(9, {each.uid: each for each in findings}), labels)


def test_false_alerts_are_counted_by_session_day_user_persona_and_trait() -> None:
    report = judged(*(finding(name, detection="ip-change") for name in "abc"), finding("d", user_id="v"))
    assert (report.alerts, report.users, report.user_days) == (4, 2, 20)
    assert (report.per_thousand_sessions, report.per_thousand_user_days) == (100.0, 200.0)
    assert report.alerted_days == 2
    assert report.noisy == 1, "three alerts in two weeks are more than one a week, one is not"
    assert report.detections == {"ip-change": 4}
    assert (report.exposure["persona:office"].people, report.exposure["persona:office"].alerted) == (2, 2)
    assert (report.exposure["trait:travels"].people, report.exposure["trait:travels"].alerts) == (1, 3)
    assert report.as_json()["noisy_users_share"] == 0.5


@pytest.mark.parametrize(
    "quiet",
    [
        {"severity": Severity.LOW},
        {"status": Status.SUPPRESSED},
        {"activity": Activity.CLOSE, "status": Status.CLOSED},
        {"shadow": True},
    ],
)
def test_what_wakes_nobody_is_no_alert(quiet: dict[str, Any]) -> None:
    assert judged(finding("a", **quiet)).alerts == 0


def test_an_alert_about_a_theft_is_right_and_finds_it() -> None:
    report = judged(finding("a"), attacks=[THEFT])
    assert (report.alerts, report.recall) == (0, 1.0)
    assert report.missed_bars(BARS["default"]) == []


def test_an_alert_on_another_session_of_the_victim_is_not_false_and_finds_nothing() -> None:
    report = judged(finding("a", session_uid="other"), attacks=[THEFT])
    assert (report.alerts, report.recall) == (0, 0.0)
    assert "recall" in report.missed_bars(BARS["default"])[0]


def test_an_alert_long_after_the_theft_is_false() -> None:
    late = T0 + 1_000 + AFTER_MS + 1
    report = judged(finding("a", event_time=late, last_event_time=late), attacks=[THEFT])
    assert (report.alerts, report.recall) == (1, 0.0)


def test_a_finding_about_a_crowd_concerns_those_whom_it_names() -> None:
    crowd = finding("a", user_id="", session_uid="", evidence=b'{"observed": {"users": ["u", "v"]}}')
    assert judged(crowd).alerted_days == 2
    assert judged(crowd, attacks=[THEFT]).recall == 1.0


def test_what_a_policy_asks_for_is_no_false_alert_under_that_policy() -> None:
    weak = finding("a", detection="weak-authentication")
    assert judged(weak, policy="mfa-always").alerts == 0
    assert judged(weak).alerts == 1


def test_too_many_false_alerts_are_below_the_bar() -> None:
    report = judged(*(finding(str(number)) for number in range(9)))
    assert len(report.missed_bars(BARS["default"])) == 3
    assert set(BARS) == set(POLICIES)


def test_the_record_in_the_documentation_has_the_form_it_is_written_in() -> None:
    assert false_alerts.problems(false_alerts.recorded()) == []


def test_a_record_of_another_form_is_seen() -> None:
    record = false_alerts.recorded()
    assert false_alerts.problems({**record, "format": 0})
    assert false_alerts.problems({**record, "policies": {}})
    policy = record["policies"]["default"]
    broken = {**policy, "detections": {**policy["detections"], "ip-change": -1}}
    assert false_alerts.problems({**record, "policies": {**record["policies"], "default": broken}})


def test_a_runbook_says_how_often_its_detection_was_false() -> None:
    policy = {"sessions": 1_000, "false_alerts": 4, "detections": {"ip-change": 3, "new-country": 0}}
    record = {"policies": {"default": policy}}
    assert "3.00 per 1,000 sessions, 75.0% of all" in false_alerts.sentence("ip-change", record)
    assert "none in 1,000 sessions" in false_alerts.sentence("new-country", record)
    assert "not measured yet" in false_alerts.sentence("another", record)
