"""The demo runs alerts as a process of its own, with its settings and broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.receivers import AlertProcess, HttpReceiver, incident, until
from worker.apps.alert_process import NONE_SET, alert_process, environment
from worker.settings import Settings, load

if TYPE_CHECKING:
    from pathlib import Path

    from worker.embedded.broker import EmbeddedBroker


def test_without_a_destination_it_says_so_and_runs_nothing(tmp_path: Path) -> None:
    with alert_process(Settings(data_dir=tmp_path)) as told:
        assert told == NONE_SET
    assert not list(tmp_path.iterdir())


def test_incidents_on_the_brokers_topic_are_delivered(
    embedded_broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpReceiver() as http, AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {}) as world:
        hook = {"kind": "webhook", "url": http.url, "allow_http": True, "allow_private": True}
        world.destinations = {"soc": hook}
        for name, value in world.environment().items():
            if name.startswith("SESSIONWATCH_"):
                monkeypatch.setenv(name, value)
        settings = load().model_copy(update={"data_dir": tmp_path})
        assert environment(settings)["SESSIONWATCH_ALERTS__GROUP_ID"] == settings.alerts.group_id
        with alert_process(settings) as told:
            assert told == "soc"
            world.publish([incident("a")])
            until(lambda: [each.id for each in http.taken] == ["a-1"], "the incident")
