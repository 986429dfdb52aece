from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schemas.feedback import Feedback
from worker.apps.directories import NoDirectoryError, StoredAt
from worker.apps.embedded import BROKER_FILE, at_broker_of
from worker.apps.feedback import UnknownFindingError, publish
from worker.cli.feedback import FeedbackVerdict
from worker.embedded.store import Address
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("uid", ["4acfdc846b84", "x" * 32, "A" * 32])
def test_force_takes_a_whole_id(uid: str) -> None:
    given = Feedback(finding_uid=uid, verdict="investigating")
    with pytest.raises(UnknownFindingError, match="32 hex digits"):
        publish(Settings(), given, force=True)


@pytest.mark.parametrize("text", ["false-positive", "false_positive", "False Positive"])
def test_a_verdict_may_be_spelled_as_on_the_topic(text: str) -> None:
    assert FeedbackVerdict(text) is FeedbackVerdict.FALSE_POSITIVE


def test_the_broker_of_a_running_demo_is_found(tmp_path: Path) -> None:
    store = tmp_path / "demo" / "store"
    store.mkdir(parents=True)
    (store.parent / BROKER_FILE).write_text("127.0.0.1:4711", encoding="utf-8")
    found = at_broker_of(Settings(), StoredAt(store, Address(1, "r", "w")))
    assert found.kafka.bootstrap_servers == "127.0.0.1:4711"
    assert found.embedded_directory() == store.resolve()


def test_without_a_running_demo_the_error_names_the_settings(tmp_path: Path) -> None:
    with pytest.raises(NoDirectoryError, match="SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS"):
        at_broker_of(Settings(), StoredAt(tmp_path / "store", None))


def test_a_broker_that_the_settings_name_is_used_when_the_store_has_none(tmp_path: Path) -> None:
    settings = Settings(kafka={"bootstrap_servers": "kafka:9092"})
    found = at_broker_of(settings, StoredAt(tmp_path / "store", None))
    assert found.kafka.bootstrap_servers == "kafka:9092"
