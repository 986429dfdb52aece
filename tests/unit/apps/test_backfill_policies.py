"""A backfill runs by the policies on the topic, whatever lies there."""

from __future__ import annotations

import pytest

from worker.apps.backfill import _engines
from worker.apps.stored_events import BackfillRange
from worker.detections.policies import BadPolicyError

ASKED = BackfillRange(since=0, until=1, detections=("impossible-travel",))
DOCUMENTS = {
    "deep": b"[" * 100_000,
    "a-list": b"[]",
    "wrong": b'{"detections": {"impossible-travel": 7}}',
    "good": b'{"max_sessions": 3, "detections": {"impossible-travel": {"enabled": false}}}',
}


def test_a_document_of_one_tenant_does_not_end_it() -> None:
    engines = _engines(DOCUMENTS, ASKED, skip_bad=True)
    assert engines.engine_for("good").policy.max_sessions == 3
    assert engines.engine_for("good").policy.detections["impossible-travel"].enabled
    assert engines.engine_for("deep") is engines.engine_for("nobody")


@pytest.mark.parametrize("tenant", [tenant for tenant in DOCUMENTS if tenant != "good"])
def test_in_a_file_it_is_an_error(tenant: str) -> None:
    with pytest.raises(BadPolicyError):
        _engines({tenant: DOCUMENTS[tenant]}, ASKED, skip_bad=False)
