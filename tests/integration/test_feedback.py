from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.keys import user_key
from tests.integration.test_store import NOW, write
from tests.support.records import TOPICS, Taken, pipeline
from tests.support.store_rows import stored
from worker.pipeline.ports import BatchResult
from worker.stream.state_store import MemoryShard

pytest_plugins = ["tests.support.store_fixtures"]


def said(**fields: Any) -> bytes:
    return json.dumps({"finding_uid": "f", "verdict": "true_positive", **fields}).encode()


def take(*values: bytes | None, time: int = NOW) -> BatchResult:
    records = [Taken(value, offset, TOPICS.feedback, 2, time) for offset, value in enumerate(values)]
    return pipeline().process(2, records, MemoryShard())


def test_verdicts_are_counted_by_detection_and_become_rows() -> None:
    outcome = take(
        said(detection="ip-change"), said(verdict="False Positive", detection="ip-change"),
        said(verdict="false-positive"), said(detection="made-up"), said(note="what nobody asked for"), None,
    )  # fmt: skip
    assert outcome.counters == {
        ("feedback", "ip-change", "true_positive"): 1,
        ("feedback", "ip-change", "false_positive"): 1,
        ("feedback", "unnamed", "false_positive"): 1,
        ("feedback", "unnamed", "true_positive"): 2,
        ("ignored", "tombstone"): 1,
    }
    assert len(outcome.rows["feedback"]) == 5
    assert not outcome.states
    assert not outcome.messages


def test_feedback_is_forwarded_to_where_the_incident_is_kept() -> None:
    by_user, by_key = take(
        said(tenant_id="acme", user_id="u", incident_key="/network/x/acme"),
        said(tenant_id="acme", incident_key="/network/x/acme"), said(incident_key="/network/x/acme"),
    ).messages  # fmt: skip
    assert by_user.key == b"/feedback/" + user_key("acme", "u")
    assert by_key.key == b"/feedback//network/x/acme"


@pytest.mark.parametrize(
    ("value", "error", "field"),
    [
        (b"{", "invalid-json", ""),
        (b"\xff", "invalid-json", ""),
        (b"[]", "wrong-type", ""),
        (b'{"verdict": "true_positive"}', "missing-field", "finding_uid"),
        (said(verdict="maybe"), "invalid-value", "verdict"),
        (said(comment=7), "wrong-type", "comment"),
        (said(comment="x" * 5000), "invalid-value", "comment"),
        (b" " * (2 << 20), "too-large", ""),
    ],
)
def test_what_is_no_verdict_goes_to_the_dead_letters(value: bytes, error: str, field: str) -> None:
    outcome = take(value, said())
    (letter,) = outcome.messages
    headers = dict(letter.headers)
    assert (letter.topic, letter.value) == ("dlq", value)
    assert (headers["sw-reason"], headers["sw-field"]) == (error.encode(), field.encode())
    assert (headers["sw-topic"], headers["sw-partition"], headers["sw-offset"]) == (b"feedback", b"2", b"0")
    assert len(outcome.rows["feedback"]) == 1


def test_the_last_word_of_each_author_counts(store: Any, database: str, tables: Any) -> None:
    early = take(said(author="alice"), said(author="bob", detection="ip-change")).rows
    later = take(said(author="alice", verdict="false_positive", comment="was me"), time=NOW + 1).rows
    write(store, database, later, early, early)
    kept = {row["author"]: (row["verdict"], row["comment"], row["said_at"]) for row in stored(tables, "feedback")}
    assert kept == {"alice": ("false_positive", "was me", NOW + 1), "bob": ("true_positive", "", NOW)}
