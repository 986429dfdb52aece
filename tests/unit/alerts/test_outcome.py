"""What a destination says never shows its secrets."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest

from worker.alerts.outcome import LONGEST_ERROR, scrubbed, spellings

KEY = "k/3y+with=s1gns&more"
SECRETS = {
    "path": (f"https://hooks.example.com/services/T0123/{quote(KEY, safe='')}", KEY),
    "query": (f"https://flows.example.com/run?sig={quote(KEY, safe='')}&v=1", KEY),
    "password": ("https://user:correct-horse@example.com/x", "correct-horse"),
    "header": ("Bearer abcdef.0123456789", "abcdef.0123456789"),
    "service": ("opsgenie://11112222-3333-4444", "11112222-3333-4444"),
    "routing key": ("R0123456789ABCDEF", "R0123456789ABCDEF"),
}


@pytest.mark.parametrize(("secret", "telling"), SECRETS.values(), ids=SECRETS)
def test_no_spelling_of_a_secret_is_shown(secret: str, telling: str) -> None:
    known = spellings([secret])
    said = (secret, telling, quote(telling, safe=""), html.escape(telling), json.dumps(telling).replace("/", "\\/"))
    for text in said:
        for shown in (scrubbed(f"no {text} here", known), scrubbed("x" * (LONGEST_ERROR - 5) + text, known)):
            assert telling[:5] not in shown
            assert len(shown) <= LONGEST_ERROR


def test_what_is_no_secret_is_shown() -> None:
    assert scrubbed("HTTP 404 no such channel", spellings(["https://hooks.example.com/a/b", "abc", ""])) == (
        "HTTP 404 no such channel"
    )


def test_an_echoed_authorization_is_not_shown() -> None:
    text = "HTTP 500 {'Authorization': 'Basic YW11c2VyOmh1bnRlcjJodW50ZXIy', 'key': 'aHVudGVyMmh1bnRlcjI='}"
    shown = scrubbed(text, spellings(["hunter2hunter2"]))
    assert "YW11c2VyOmh1bnRlcjJodW50ZXIy" not in shown
    assert "aHVudGVyMmh1bnRlcjI" not in shown
