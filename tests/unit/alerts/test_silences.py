"""Silences by network."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.alerting import Silence
from schemas.finding import Severity
from worker.alerts.routing import _silenced
from worker.alerts.sample import HOUR, sample_incident

NOW = 1_795_165_200_000


@pytest.mark.parametrize(("network", "silent"), [("198.51.100.0/24", False), ("203.0.113.0/24", True)])
def test_a_silence_of_the_user_s_network_hides_no_intruder_elsewhere(network: str, silent: bool) -> None:  # noqa: FBT001
    until = datetime.fromtimestamp((NOW + HOUR) / 1000, UTC)
    silence = Silence(until=until, networks=(network,), reason="maintenance")
    assert bool(_silenced(sample_incident(NOW, Severity.HIGH), [silence], NOW)) is silent
