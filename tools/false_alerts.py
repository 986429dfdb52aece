"""The recorded evaluation: `docs/evaluation.json`, written by `sessionwatch evaluate --save docs/evaluation.json`.

The page of runbooks takes from it how often each detection alerts in simulated ordinary lives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from worker.apps.evaluate import RECORD_FORMAT
from worker.apps.lives import POLICIES

RECORD = Path(__file__).parent.parent / "docs" / "evaluation.json"
COUNTS = ("sessions", "user_days", "users", "false_alerts", "noisy_users")


def recorded() -> dict[str, Any]:
    """Return the recorded evaluation."""
    found: dict[str, Any] = orjson.loads(RECORD.read_bytes())
    return found


def problems(record: dict[str, Any]) -> list[str]:
    """Return the problems of a record's format."""
    if record.get("format") != RECORD_FORMAT:
        return [f"format {record.get('format')}, not {RECORD_FORMAT}"]
    found = [] if set(record["policies"]) == set(POLICIES) else [f"policies {sorted(record['policies'])}"]
    for name, policy in record["policies"].items():
        detections = policy["detections"]
        found += [f"{name}: {key} is no count" for key in COUNTS if not _is_count(policy.get(key))]
        found += [f"{name}: {uid} has no count" for uid, alerts in detections.items() if not _is_count(alerts)]
        if not found and sum(detections.values()) != policy["false_alerts"]:
            found.append(f"{name}: the detections' false alerts are not the sum")
    return found


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def sentence(uid: str, record: dict[str, Any]) -> str:
    """Return the sentence for a detection's runbook: its false alerts under the default policy."""
    policy = record["policies"]["default"]
    alerts = policy["detections"].get(uid)
    where = "in [simulated ordinary lives](evaluation.md)"
    if alerts is None:
        return f"False alerts {where}: not measured yet."
    if alerts == 0:
        return f"False alerts {where}: none in {policy['sessions']:,} sessions."
    share, often = alerts / policy["false_alerts"], 1_000 * alerts / policy["sessions"]
    return f"False alerts {where}: {often:.2f} per 1,000 sessions, {share:.1%} of all."
