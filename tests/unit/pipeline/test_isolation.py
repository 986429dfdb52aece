"""What one user or tenant sends does not touch the findings of another."""

from __future__ import annotations

from test_budget import take
from test_pipeline import T0, session


def reused(user: str, uid: str = "shared") -> list[bytes]:
    """A session that is deleted and used afterwards."""
    return [
        session(uid=uid, user_id=user, is_deleted=True, updated_at=T0),
        session(uid=uid, user_id=user, last_used_at=T0 + 10 * 60_000),
    ]


def test_two_users_of_one_uid_have_two_findings() -> None:
    outcome = take([*reused("alice"), *reused("bob")], b"{}")
    found = {each.user_id: each.uid for each in outcome.findings if each.detection == "use-after-revocation"}
    assert set(found) == {"alice", "bob"}
    assert found["alice"] != found["bob"]
    assert len({each.uid for each in outcome.findings}) == len(outcome.rows["findings"])
