from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.policy import TenantPolicy
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import UnknownDetectionError, detection, detections
from worker.detections.testing import Case, load_cases, milliseconds, run_case

CASES = Path(__file__).parents[2] / "cases"
ALL = detections()
LOADED = [case for path in sorted(CASES.glob("*.yaml")) for case in load_cases(path)]


@pytest.mark.parametrize("case", LOADED, ids=lambda case: f"{case.detection or 'benign'}: {case.name}")
def test_case(case: Case) -> None:
    assert not run_case(case, ALL.values()).problems


@pytest.mark.parametrize("uid", ALL)
def test_a_detection_is_complete(uid: str) -> None:
    each = ALL[uid]
    assert each.title
    assert each.title[0].isupper()
    assert len(each.description.split()) >= 20
    assert each.false_positives
    assert 2 <= len(each.runbook) <= 3
    assert each.sources
    assert each.score in (21, 47, 73, 99)
    assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", attack.uid) and attack.name for attack in each.attacks)
    assert int(each.triggers)


@pytest.mark.parametrize("uid", ALL)
def test_a_detection_lives_in_the_file_of_its_name(uid: str) -> None:
    assert ALL[uid].detect.__module__ == f"worker.detections.rules.{uid.replace('-', '_')}"


@pytest.mark.parametrize("uid", ALL)
def test_a_detection_has_cases_of_both_kinds(uid: str) -> None:
    own = [case for case in LOADED if case.detection == uid]
    assert sum(case.is_positive for case in own) >= 3
    assert sum(not case.is_positive for case in own) >= 3


@pytest.mark.parametrize("uid", ALL)
def test_what_a_detection_covers_exists_and_covers_nothing_back(uid: str) -> None:
    for covered in ALL[uid].covers:
        assert uid not in ALL[covered].covers


def test_a_shadow_covers_nothing() -> None:
    case = next(case for case in LOADED if case.name == "another class of device")
    shadow = TenantPolicy.model_validate({"detections": {"session-hijack": {"shadow": True}}})
    problems = run_case(case._replace(policy=shadow), ALL.values()).problems
    assert "suppressed_by is []" in problems[0]


def test_every_file_of_cases_belongs_to_a_detection() -> None:
    assert {path.stem for path in CASES.glob("*.yaml")} == {*ALL, "benign"}


def test_ordinary_life_is_never_above_informational() -> None:
    benign = [case for case in LOADED if not case.detection]
    classes = (
        "roaming",
        "CGNAT",
        "carrier churn",
        "Relay",
        "dual stack",
        "browser upgrade",
        "corporate egress",
        "flights",
    )
    assert all(any(name in case.name for case in benign) for name in classes)
    assert {case.none_above for case in benign} == {"informational"}


def test_an_unknown_detection_is_told() -> None:
    with pytest.raises(UnknownDetectionError):
        detection("no-such-thing")


def test_a_judge_asks_only_those_that_listen() -> None:
    engine = TenantRuleEngine([detection("use-after-expiry")])
    assert engine.triggers == int(detection("use-after-expiry").triggers)


@pytest.mark.parametrize("wrong", ["", "5", "5x", "m5", "5m x"])
def test_a_wrong_offset_is_told(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        milliseconds(wrong)
