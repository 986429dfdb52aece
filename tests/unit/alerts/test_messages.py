from __future__ import annotations

import json
import re
import shlex
from email import message_from_bytes
from email.policy import default
from importlib.resources import files
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from schemas.alerting import AlertingPolicy
from schemas.finding import Activity, Severity
from schemas.incident import Incident, IncidentState, Resolution, Side, Sighting, TimelineEntry
from tests.support.receivers import incident
from worker.alerts.alert import Alert
from worker.alerts.config import Revoke, SharedSignals, Syslog
from worker.alerts.destinations import mail, pagerduty, shared_signals, slack, syslog, teams, webhook
from worker.alerts.destinations.alertmanager import alerts
from worker.alerts.destinations.revoke import RevokeSender
from worker.alerts.digest import build_digest
from worker.alerts.dispatcher import bare
from worker.alerts.message import Links, build_message
from worker.alerts.rendering import plain_text, render

CARD = json.loads(files("adaptive_cards").joinpath("schemas/schema-1.4.json").read_text())
GRAFANA = Links("https://grafana.example.com", "https://console.example.com/{tenant}/{incident}")
HOSTILE = (
    "<!channel> <@U123> @here *b* _i_ `c` ~s~ [x](javascript:alert(1)) <img src=x onerror=alert(1)> <at>Bob</at> "
    "http://evil.example {{ 7*7 }} {% raise %} \r\nBcc: a@b.example\u202egnp |x=1\\ \x00\x1b[31m ]] '; DROP TABLE x; --"
)


def alert_of(made: Incident, **policy: Any) -> Alert:
    message = build_message(made, GRAFANA)
    alerting = AlertingPolicy.model_validate(policy)
    return Alert(message.id, made, made.message(), message, alerting, made.detected_at)


def hostile(text: str = HOSTILE, size: int = 1) -> Incident:
    made = incident("f" * 32)
    place = Sighting(ip="203.0.113.9", network=text, place=text, device=text, country=text, side=Side.INTRUDER)
    entry = TimelineEntry(
        time=made.started_at, session_uid=text, severity=Severity.HIGH, text=text, detections=(text,), findings=(text,),
        before=place, after=place,
    )  # fmt: skip
    finding = msgspec.structs.replace(made.findings[0], title=text, summary=text, session_uid=text)
    return msgspec.structs.replace(
        made, title=text, user_id=text, tenant_id=text, subject=text, runbook=(text,) * 3, not_judged=(text,) * size,
        findings=(finding,) * size, timeline=(entry,) * size, sightings=(place,) * size, sessions=(text,) * size,
        networks=(text,) * size, devices=(text,) * size, places=(text,) * size, detections=(text,) * size,
    )  # fmt: skip


def resolved(resolution: Resolution = Resolution.WITHDRAWN) -> Incident:
    made = incident("a" * 32, 2, activity=Activity.CLOSE, resolution=resolution)
    return msgspec.structs.replace(made, state=IncidentState.RESOLVED)


EVERY = {
    "usual": incident("a" * 32),
    "critical": incident("b" * 32, severity=Severity.CRITICAL),
    "resolved": resolved(),
    "hostile": hostile(),
    "large": hostile(HOSTILE * 10, 40),
    "empty": hostile("", 0),
    "network": incident("c" * 32),
}
EVERY["network"] = msgspec.structs.replace(EVERY["network"], user_id="", subject="203.0.113.0/24")
incidents = pytest.mark.parametrize("made", EVERY.values(), ids=EVERY)


def is_slack_message(payload: dict[str, Any]) -> None:
    blocks = Block.parse_all(payload["blocks"])
    assert len(blocks) == len(payload["blocks"]) <= 50
    for block in blocks:
        assert block is not None
        block.validate_json()
    assert 0 < len(payload["text"]) <= 4_000
    for block in payload["blocks"]:
        for text in (block.get("text"), *block.get("fields", ()), *block.get("elements", ())):
            if text and "text" in text:
                content = text["text"] if isinstance(text["text"], str) else text["text"]["text"]
                assert 0 < len(content) <= 3_000


def is_teams_message(payload: dict[str, Any]) -> None:
    assert payload["type"] == "message"
    (attachment,) = payload["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    jsonschema.validate(attachment["content"], CARD)
    assert len(json.dumps(payload).encode()) < 28 * 1024


@incidents
def test_slack_gets_block_kit(made: Incident) -> None:
    is_slack_message(slack.payload(build_message(made, GRAFANA)))
    is_slack_message(slack.payload(bare(build_message(made, GRAFANA))))


@incidents
def test_teams_gets_an_adaptive_card(made: Incident) -> None:
    is_teams_message(teams.payload(build_message(made, GRAFANA)))
    is_teams_message(teams.payload(bare(build_message(made, GRAFANA))))


def test_a_card_that_is_none_is_seen() -> None:
    payload = teams.payload(build_message(EVERY["usual"], GRAFANA))
    payload["attachments"][0]["content"]["body"][0]["size"] = "Enormous"
    with pytest.raises(jsonschema.ValidationError):
        is_teams_message(payload)


def test_digests_are_valid_and_say_how_many_more() -> None:
    messages = [build_message(each, GRAFANA) for each in EVERY.values()] * 3
    digest = build_digest(messages, list(EVERY.values()), GRAFANA.grafana)
    is_slack_message(slack.digest_payload(digest))
    is_teams_message(teams.digest_payload(digest))
    assert digest.more == "and 11 more"
    assert digest.messages[0].severity == "critical"
    assert digest.more in json.dumps(slack.digest_payload(digest))
    assert "sessionwatch-findings" in digest.link
    assert "and 11 more" in mail.digest_mail(digest).as_string()


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for name, each in value.items() if name != "url" for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def test_untrusted_text_mentions_and_formats_nothing_in_slack() -> None:
    shown = "\n".join(texts(slack.payload(build_message(EVERY["hostile"], GRAFANA))))
    assert "<!" not in shown
    assert "<@" not in shown
    assert "@here" not in shown
    assert "http://evil" not in shown
    assert "*b*" not in re.sub(r"`[^`]*`", "", shown), "outside of code"


def test_untrusted_text_is_no_markdown_in_teams() -> None:
    shown = "\n".join(texts(teams.payload(build_message(EVERY["hostile"], GRAFANA))))
    assert "[x](" not in shown
    assert "<at>" not in shown
    assert "http://evil" not in shown


def test_untrusted_text_is_no_html_in_mails() -> None:
    made = mail.mail(alert_of(EVERY["hostile"]))
    html = made.get_body(("html",))
    assert html is not None
    content = html.get_content()
    assert "<img" not in content
    assert "<at>" not in content
    assert "{{ 7*7 }}" in content, "what comes from outside is no template"
    assert made["Bcc"] is None
    assert "\n" not in made["Subject"]
    parsed = message_from_bytes(made.as_bytes(), policy=default)
    assert parsed["Message-ID"] == f"<{'f' * 32}-1@sessionwatch.invalid>"


def test_mails_about_one_incident_are_a_thread_with_ids_of_their_own() -> None:
    first, last = mail.mail(alert_of(EVERY["usual"])), mail.mail(alert_of(EVERY["resolved"]))
    assert first["References"] == last["References"]
    assert first["Message-ID"] != last["Message-ID"]
    assert "Resolved" in last["Subject"]


def test_a_message_answers_the_first_questions() -> None:
    text = plain_text(build_message(EVERY["critical"], GRAFANA))
    for answer in (
        "user-" + "b" * 32, "tenant acme", "Lyon, FR", "Singapore, SG", "before:", "after:", "km/h", "risk 99 of 100",
        "1 session", "What to do", "sessionwatch feedback", "--tenant acme", "SELECT * FROM session_events",
        "https://grafana.example.com/d/sessionwatch-session?from=", "https://console.example.com/acme/",
        "T1550.004", "probably the intruder",
    ):  # fmt: skip
        assert answer in text, answer


def test_what_another_finding_says_already_counts_as_support_and_tells_the_speed() -> None:
    (told,) = incident("a").findings
    quiet = msgspec.structs.replace(told, summary="session used by somebody else")
    covered = msgspec.structs.replace(told, is_alert=False, suppressed_by=("covered-by-x",), is_covered=True)
    excused = msgspec.structs.replace(quiet, is_alert=False, suppressed_by=("allowed-network",))
    made = msgspec.structs.replace(incident("a"), findings=(quiet,), suppressed=(excused, covered, covered))
    facts = dict(build_message(made, Links()).facts)
    assert facts["How fast"] == "10,780 km in 15 minutes: 43,120 km/h"
    assert facts["How sure"] == "risk 99 of 100, from 1 finding of 1 kind; 2 more say the same; 1 more does not alert"


def test_an_acknowledged_incident_says_by_whom_and_asks_nobody_to_take_it() -> None:
    made = incident("a", 2)
    taken_up = msgspec.structs.replace(made, acknowledged_at=made.detected_at, acknowledged_by="<@U1> alice")
    message = build_message(taken_up, Links())
    assert message.heading == "Incident acknowledged, high"
    assert "alice" in dict(message.facts)["Acknowledged"]
    assert "<@U1>" not in json.dumps(slack.payload(message))
    assert message.acknowledge == ""
    assert "investigating" in build_message(made, Links()).acknowledge
    events = pagerduty.events(alert_of(taken_up), "key")
    assert [event["event_action"] for event in events] == ["trigger", "acknowledge"]


def test_a_resolution_says_why() -> None:
    for resolution, words in ((Resolution.QUIET, "quiet"), (Resolution.FALSE_POSITIVE, "false positives")):
        assert words in " ".join(build_message(resolved(resolution), Links()).notes)


def test_what_was_left_out_is_said() -> None:
    assert "2 earlier states" in plain_text(build_message(EVERY["usual"], Links(), replaced=2))


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=200))
def test_no_text_breaks_a_message(text: str) -> None:
    made = alert_of(hostile(text, 2))
    is_slack_message(slack.payload(made.message))
    is_teams_message(teams.payload(made.message))
    mail.mail(made).as_bytes()
    assert len(webhook.payload(made)) < webhook.LARGEST
    line = syslog.syslog_line(made, SYSLOG, "host")
    assert line.count(b"\n") == 0


SYSLOG = Syslog.model_validate({"kind": "syslog", "host": "h", "format": "cef"})


@pytest.mark.parametrize("template", ["{{ m.nothing }}", "{{ 1 / 0 }}", "{% if %}", "{{ ''.__class__.__mro__ }}",
                                      "{{ m.__init__.__globals__ }}", "{% for i in range(10 ** 9) %}x{% endfor %}",
                                      "{% include '/etc/passwd' %}"])  # fmt: skip
@pytest.mark.parametrize("channel", ["html", "slack", "teams", "text"])
def test_a_template_that_raises_becomes_plain_text_that_says_so(channel: Any, template: Any) -> None:
    message = build_message(EVERY["hostile"], GRAFANA)
    made = render(channel, "", message, template)
    assert made.failed
    assert "template of this destination failed" in made.text
    assert "What to do" in made.text
    assert "<img" not in made.text.replace("\\<", "") or channel == "text"


def test_own_templates_escape_for_their_channel() -> None:
    message = build_message(EVERY["hostile"], GRAFANA)
    assert "<!channel>" not in render("slack", "", message, "{{ m.title }}").text
    assert "<img" not in render("html", "", message, "{{ m.title }}").text
    is_slack_message(slack.payload(message, "{{ m.title }} for {{ m.tenant_id }}"))
    is_teams_message(teams.payload(message, "{{ m.nothing }}"))


@incidents
def test_webhooks_stay_below_twenty_kilobytes(made: Incident) -> None:
    body = webhook.payload(alert_of(made))
    assert len(body) < 20_000
    told = json.loads(body)
    assert told["type"] in ("incident.created", "incident.resolved")
    assert told["data"]["class_uid"] == 2005
    assert told["data"]["metadata"]["uid"] == f"{made.uid}-{made.revision}"


def test_pagerduty_triggers_updates_and_resolves_under_one_key() -> None:
    opened, closed = (
        *pagerduty.events(alert_of(EVERY["usual"]), "key"),
        *pagerduty.events(alert_of(EVERY["resolved"]), "key"),
    )
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "a" * 32
    assert opened["payload"]["severity"] == "error"
    assert len(pagerduty.events(alert_of(EVERY["large"]), "key")[0]["payload"]["summary"]) <= 1_024
    json.dumps(pagerduty.events(alert_of(EVERY["large"]), "key"))


def test_alertmanager_ends_an_incident_under_its_other_severities() -> None:
    found = {each["labels"]["severity"]: each for each in alerts(alert_of(EVERY["critical"]), {"team": "soc"}, 1_000)}
    assert len(found) == 5
    live = [name for name, each in found.items() if each["endsAt"] > each["startsAt"] and name == "critical"]
    assert live == ["critical"]
    now = EVERY["critical"].detected_at
    assert all(each["endsAt"] < found["critical"]["endsAt"] for name, each in found.items() if name != "critical")
    assert len({each["endsAt"] for each in alerts(alert_of(EVERY["resolved"]), {}, 1_000)}) == 1
    assert now


def test_cef_is_parsable_whatever_is_in_it() -> None:
    line = syslog.syslog_line(alert_of(EVERY["hostile"]), SYSLOG, "host").decode()
    assert line.startswith("<83>1 ")
    head, _, rest = line.partition("CEF:0|")
    assert head
    fields = [part.replace("\\|", "") for part in rest.replace("\\\\", "").split("|")[:6]]
    assert fields[0] == fields[1] == "sessionwatch"


def signals(**more: Any) -> SharedSignals:
    return SharedSignals.model_validate(
        {
            "kind": "shared-signals",
            "url": "https://r",
            "issuer": "https://us",
            "audience": "them",
            "private_key": "x",
            **more,
        }
    )


def events_of(made: Incident, config: SharedSignals, **policy: Any) -> list[str]:
    return [
        next(iter(each["events"])).rpartition("/")[2]
        for each in shared_signals.tokens(alert_of(made, **policy), config)
    ]


def test_revocation_is_asked_for_by_policy_alone_and_for_hard_invariants() -> None:
    critical, high = EVERY["critical"], EVERY["usual"]
    assert events_of(critical, signals()) == ["risk-level-change"]
    assert events_of(critical, signals(), revoke=True) == ["risk-level-change", "session-revoked"]
    assert events_of(high, signals(), revoke=True) == ["risk-level-change"], "session-hijack is not critical"
    owner = msgspec.structs.replace(
        high, findings=(msgspec.structs.replace(high.findings[0], detection="owner-change"),)
    )
    assert events_of(owner, signals(), revoke=True) == ["risk-level-change", "session-revoked"]
    false = msgspec.structs.replace(
        critical, findings=(msgspec.structs.replace(critical.findings[0], false_positive=True),)
    )
    assert events_of(false, signals(), revoke=True) == ["risk-level-change"]
    assert events_of(EVERY["resolved"], signals(), revoke=True) == ["risk-level-change"]
    assert events_of(EVERY["network"], signals(), revoke=True) == []


def test_a_fall_to_one_factor_is_a_change_of_assurance() -> None:
    made = EVERY["usual"]
    fall = msgspec.structs.replace(
        made, findings=(msgspec.structs.replace(made.findings[0], detection="auth-downgrade"),)
    )
    assert events_of(fall, signals()) == ["risk-level-change", "assurance-level-change"]


def test_okta_is_told_of_risk_as_it_takes_it() -> None:
    (token,) = shared_signals.tokens(alert_of(EVERY["critical"]), signals(dialect="okta", subject="email"))
    ((kind, event),) = token["events"].items()
    assert kind == "https://schemas.okta.com/secevent/okta/event-type/user-risk-change"
    assert event["current_level"] == "high"
    assert event["subject"] == {"user": {"format": "email", "email": "user-" + "b" * 32}}
    assert token["iat"] == EVERY["critical"].detected_at // 1000


def test_ids_of_tokens_are_the_same_over_attempts() -> None:
    first = alert_of(EVERY["critical"], revoke=True)
    again = first._replace(now=first.now + 60_000)
    assert [each["jti"] for each in shared_signals.tokens(first, signals())] == [
        each["jti"] for each in shared_signals.tokens(again, signals())
    ]


@pytest.mark.parametrize(("session", "user", "calls"), [("s", "u", 1), (".", "u", 0), ("..", "u", 0), ("s", "..", 0)])
def test_a_revocation_calls_no_other_path(session: str, user: str, calls: int) -> None:
    made = incident("a" * 32)
    hard = msgspec.structs.replace(
        made.findings[0], detection="owner-change", is_alert=True, false_positive=False, session_uid=session
    )
    made = msgspec.structs.replace(made, findings=(hard,), user_id=user)
    config = Revoke(kind="revoke", url="https://idp.example/users/{user}/sessions/{session}", method="DELETE")
    assert len(RevokeSender(config, lambda: 0).requests(alert_of(made, revoke=True))) == calls


def test_a_command_in_slack_stays_one_command() -> None:
    made = msgspec.structs.replace(incident("a" * 32), tenant_id="x`;touch pwned;`")
    text = slack.payload(alert_of(made).message)["blocks"][-1]["elements"][0]["text"]
    for command in re.findall("`([^`]*)`", text):
        words = shlex.split(command)
        assert (words[0], words[-2], len(words)) == ("sessionwatch", "--tenant", 6)


@pytest.mark.parametrize("channel", ["slack", "teams"])
@pytest.mark.parametrize("name", ["e", "escape", "forceescape", "tojson"])
def test_filters_for_html_do_not_undo_a_channel_s_escaping(channel: str, name: str) -> None:
    made = msgspec.structs.replace(incident("a" * 32), title="[a](https://evil.example) @here <!channel>")
    text = render(channel, "", alert_of(made).message, f"{{{{ m.title|{name} }}}}").text
    assert "https://" not in text
    assert "@here" not in text
    assert "<!" not in text


def test_a_command_in_teams_can_be_copied() -> None:
    made = msgspec.structs.replace(incident("a" * 32), tenant_id="acme.example.com")
    body = teams.payload(alert_of(made).message)["attachments"][0]["content"]["body"]
    shown = [each["text"].replace("\\", "") for each in body if each.get("fontType") == "Monospace"]
    assert shown
    assert all(each.endswith(" --tenant acme.example.com") for each in shown)
