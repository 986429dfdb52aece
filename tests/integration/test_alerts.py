"""Delivery of incidents by the real process, on the embedded broker, to real servers on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import closing
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from joserfc import jwt
from joserfc.jwk import RSAKey
from standardwebhooks import Webhook

from schemas.finding import Activity, Severity
from tests.chaos import alerts as chaos
from tests.support.receivers import AlertProcess, HttpReceiver, incident, now_ms, udp_socket, until
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.embedded.access import Role
from worker.embedded.broker import EmbeddedBroker, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.support.store_fixtures"]
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SIGNING = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
LOCAL = {"allow_http": True, "allow_private": True}
FAST = {"SESSIONWATCH_ALERTS__RETRY_DELAYS_S": "[0.3,0.5,1,1,1,1,2,2,2]", "SESSIONWATCH_ALERTS__BREAKER_S": "0.5"}
SLOW = {"SESSIONWATCH_ALERTS__RETRY_DELAYS_S": "[2,600,600]", "SESSIONWATCH_ALERTS__BREAKER_S": "600"}


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


def hook(receiver: HttpReceiver, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "url": f"{receiver.url}/hook", "secrets": [SIGNING], **LOCAL, **more}


def close_of(uid: str, revision: int = 2, **more: Any) -> Any:
    return incident(uid, revision, activity=Activity.CLOSE, **more)


def listed(alerts: AlertProcess, *options: str) -> list[dict[str, Any]]:
    """Return what `alerts list` shows: deliveries that wait or failed."""
    found: list[dict[str, Any]] = json.loads(alerts.command("alerts", "list", "--json", *options).stdout)["deliveries"]
    return found


def ids(receiver: HttpReceiver, path: str = "/hook") -> list[str]:
    return [each.id for each in receiver.taken if each.path == path]


# --- The delivery protocol ---


@pytest.mark.parametrize("fault", ["alerts-all"])
def test_nothing_is_lost_or_reordered_whatever_goes_wrong(
    embedded_broker: EmbeddedBroker, tmp_path: Path, fault: Any
) -> None:
    found = chaos.run(fault, embedded_broker.bootstrap_servers, tmp_path, chaos.SHORT)
    assert (found.missing, found.reordered, found.strange) == (0, 0, 0), found


def test_a_destination_that_does_not_answer_holds_up_no_other(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    with HttpReceiver() as silent:
        silent.delay = 3_600
        destinations = {"soc": hook(http), "silent": hook(silent, concurrency=64, timeout_s=600)}
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
            alerts.start()
            alerts.publish([incident(f"a{number}", revision) for number in range(100) for revision in (1, 2)])
            until(lambda: len(ids(http)) == 200, "all states at the healthy one")
            assert not silent.taken


def test_what_is_parked_survives_a_kill_and_order_is_kept(broker: Any, tmp_path: Path, http: HttpReceiver) -> None:
    http.behave = lambda _: 503
    with AlertProcess(broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        process = alerts.start()
        alerts.publish([incident("a"), incident("a", 2)])
        until(lambda: len(http.seen) >= 2, "two attempts")
        assert {each.id for each in http.seen} == {"a-1"}, "the second state waits behind the first"
        alerts.kill(process)
        alerts.publish([close_of("a", 5)])
        http.behave = lambda _: 200
        alerts.start()
        until(lambda: len(ids(http)) == 3, "three states")
        assert ids(http) == ["a-1", "a-2", "a-5"]


def test_what_was_told_is_not_told_again_after_a_restart(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        process = alerts.start()
        alerts.publish([incident("a"), incident("a"), incident("b")])
        until(lambda: len(ids(http)) == 2, "two states")
        # A kill right after the answer may repeat a message; one after the journal has it does not.
        until(lambda: not listed(alerts), "what was told in the journal")
        alerts.kill(process)
        alerts.publish([incident("a"), incident("b", 1), incident("c")])
        alerts.start()
        until(lambda: "c-1" in ids(http), "the third")
        assert sorted(ids(http)) == ["a-1", "b-1", "c-1"]


def test_two_processes_share_the_work_and_one_takes_over(broker: Any, tmp_path: Path, http: HttpReceiver) -> None:
    with AlertProcess(broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        first, _second = alerts.start(), alerts.start(free_port())
        until(alerts.is_ready, "readiness")
        alerts.publish([incident(f"a{number}") for number in range(50)])
        until(lambda: len(set(ids(http))) == 50, "the first fifty")
        alerts.kill(first)
        alerts.publish([incident(f"b{number}") for number in range(50)])
        until(lambda: len(set(ids(http))) == 100, "all of them")


def test_a_process_that_was_frozen_loses_nothing_when_it_wakes(broker: Any, tmp_path: Path, http: HttpReceiver) -> None:
    with AlertProcess(broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        first = alerts.start()
        until(alerts.is_ready, "readiness")
        alerts.publish([incident(f"a{number}") for number in range(20)])
        until(lambda: ids(http), "the first of them")
        first.send_signal(signal.SIGSTOP)
        other = free_port()
        alerts.start(other)
        alerts.publish([incident(f"a{number}", 2) for number in range(20)])
        wanted = {f"a{number}-{revision}" for number in range(20) for revision in (1, 2)}
        until(lambda: wanted <= set(ids(http)), "all of them, by the other")
        first.send_signal(signal.SIGCONT)
        alerts.publish([incident(f"a{number}", 3) for number in range(20)])
        until(lambda: len({each for each in ids(http) if each.endswith("-3")}) == 20, "what came after it woke")
        until(lambda: not listed(alerts), "nothing that waits")
        firsts = list(dict.fromkeys(ids(http)))
        assert chaos.reordered(firsts) == 0


def test_a_stop_while_kafka_is_dead_takes_no_longer_than_promised(tmp_path: Path, http: HttpReceiver) -> None:
    with (
        EmbeddedBroker(tmp_path / "broker.log") as broker,
        AlertProcess(broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts,
    ):
        process = alerts.start()
        until(alerts.is_ready, "readiness")
        http.delay = 1.0
        alerts.publish([incident(f"a{number}") for number in range(8)])
        broker.stop()
        until(lambda: not alerts.is_ready(), "that it says so")
        assert alerts.stop(process) == 0
        assert "Traceback" not in alerts.logged()


def test_a_destination_that_is_back_gets_at_once_what_waited(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    http.behave = lambda _: 503
    more = {**SLOW, "SESSIONWATCH_ALERTS__BREAKER_S": "1", "SESSIONWATCH_ALERTS__BREAKER_FAILURES": "2"}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http, concurrency=1)}, more) as alerts:
        alerts.start()
        alerts.publish([incident(f"a{number}") for number in range(4)])
        until(lambda: "circuit breaker is open" in alerts.logged(), "an open breaker")
        attempts = len(http.seen)
        assert attempts < 8, "the breaker spares a destination that fails"
        http.behave = lambda _: 200
        until(lambda: len(ids(http)) == 4, "all, long before their next time")
        assert "accepts messages again" in alerts.logged()


def test_retry_after_is_followed(embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver) -> None:
    http.behave = lambda _: (429, {"Retry-After": "3"}) if len(http.seen) < 1 else 200
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        alerts.start()
        alerts.publish([incident("a"), incident("b")])
        until(lambda: len(ids(http)) == 2, "both")
        assert http.seen[-1].at - http.seen[0].at >= 2.5


def test_410_disables_and_failures_are_listed_and_replayed(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    http.behave = lambda _: 410
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, FAST) as alerts:
        process = alerts.start()
        alerts.publish([incident("a"), incident("b")])
        until(lambda: alerts.logged().count("failed for good") == 2, "two failures")
        assert len(http.seen) <= 2
        failed = listed(alerts, "--failed")
        assert {each["key"] for each in failed} == {"soc/a/1", "soc/b/1"}
        assert all("410" in each["error"] for each in failed)
        alerts.stop(process)
        http.behave = lambda _: 200
        process = alerts.start()
        until(alerts.is_ready, "readiness")
        assert alerts.command("alerts", "replay", "soc/a/1").returncode == 0
        until(lambda: ids(http) == ["a-1"], "the one that was asked for, with its id")
        alerts.kill(process)
        assert alerts.command("alerts", "replay", "--all").returncode == 0
        alerts.start()
        until(lambda: ids(http) == ["a-1", "b-1"], "the other, though nobody ran when it was asked for")


def test_a_message_that_is_refused_does_not_stop_the_others(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    http.behave = lambda got: 400 if got.id.startswith("bad") else 200
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, SLOW) as alerts:
        alerts.start()
        alerts.publish(
            [incident(f"bad{number}") for number in range(10)] + [incident(f"a{number}") for number in range(10)]
        )
        until(lambda: len(ids(http)) == 10, "the good ones")
        assert "circuit breaker is open" not in alerts.logged()


def test_records_that_are_no_incidents_are_skipped(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}) as alerts:
        alerts.start()
        alerts.publish([type("Broken", (), {"message": lambda _: b"{nonsense", "uid": "a", "user_id": "u"})()])  # type: ignore[list-item]
        alerts.publish([incident("a")])
        until(lambda: ids(http) == ["a-1"], "the incident behind it")
        assert "is no incident" in alerts.logged()


# --- What reaches whom ---


def test_routing_silences_and_a_resolution_where_it_was_told(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    destinations = {
        "all": hook(http, min_severity="low"),
        "chat": {"kind": "slack", "url": f"{http.url}/chat", **LOCAL, "rate_per_s": 100, "min_severity": "high"},
    }
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        alerts.set_policy("acme", {"alerting": {"silences": [
            {"until": "2100-01-01T00:00:00Z", "users": ["user-quiet"], "reason": "a known tester"}]}})  # fmt: skip
        alerts.start()
        alerts.publish([
            incident("quiet"), close_of("quiet"),
            incident("low", severity=Severity.MEDIUM), close_of("low"),
            incident("rises", severity=Severity.MEDIUM), incident("rises", 2),
            close_of("rises", 3, severity=Severity.LOW),
            incident("last"),
        ])  # fmt: skip
        until(lambda: "last-1" in ids(http), "the last")
        until(lambda: len([each for each in http.taken if each.path == "/chat"]) == 3, "three messages in the chat")
        chat = [each.json()["text"] for each in http.taken if each.path == "/chat"]
        assert "user-quiet" not in json.dumps(chat)
        assert "user-low" not in json.dumps(chat)
        assert [("resolved" in each, "user-rises" in each) for each in sorted(chat) if "rises" in each] == [
            (True, True), (False, True)
        ]  # fmt: skip
        assert ids(http).count("quiet-1") == 0


def test_quiet_hours_hold_people_back_and_not_machines(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    destinations = {
        "machine": hook(http),
        "chat": {"kind": "slack", "url": f"{http.url}/chat", **LOCAL, "rate_per_s": 100},
    }
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        quiet = {"start": "00:00", "end": "00:00", "reason": "always"}
        alerts.set_policy("acme", {"alerting": {"quiet_hours": [quiet]}})
        alerts.start()
        alerts.publish([incident("held"), incident("critical", severity=Severity.CRITICAL)])
        until(lambda: len(ids(http)) == 2, "both at the machine")
        until(lambda: [each for each in http.taken if each.path == "/chat"], "the critical one")
        (only,) = [each for each in http.taken if each.path == "/chat"]
        assert "user-critical" in only.json()["text"]
        assert [each["reason"] for each in listed(alerts)] == ["quiet hours: always"]


def test_a_flood_becomes_a_digest_and_criticals_pass(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    chat = {"kind": "slack", "url": f"{http.url}/chat", **LOCAL, "rate_per_s": 2, "burst": 1}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"chat": chat}) as alerts:
        alerts.start()
        until(alerts.is_ready, "readiness")
        alerts.publish([incident(f"a{number}") for number in range(100)] + [incident("c", severity=Severity.CRITICAL)])
        until(lambda: len(http.taken) >= 2 and not listed(alerts), "everything told")
        texts = [each.json()["text"] for each in http.taken]
        assert len(texts) < 10
        assert any("incidents at once" in each for each in texts)
        assert any(" more" in json.dumps(each.json()) for each in http.taken)
        assert sum("user-c " in f"{each} " for each in texts) == 1, "the critical one by itself"


def test_a_tenant_has_destinations_of_its_own_with_its_own_secrets_alone(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    secrets = {"acme": {"theirs": f"{http.url}/own"}, "other": {"stolen": f"{http.url}/stolen"}}
    more = {"SESSIONWATCH_ALERTS__TENANT_SECRETS": json.dumps(secrets), **SLOW}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, more) as alerts:
        own = {"kind": "webhook", "url": "theirs"}
        alerts.set_policy("acme", {"alerting": {"destinations": {"own": own, "thief": {**own, "url": "stolen"}}}})
        alerts.start()
        alerts.publish([incident("a")])
        until(lambda: ids(http) == ["a-1"], "the operator's")
        until(lambda: "cannot be used" in alerts.logged(), "the refusal of what is another's")
        (own_one,) = until(lambda: [each for each in listed(alerts) if each.get("attempts")], "the tenant's own")
        assert own_one["destination"] == "acme:own"
        assert "https" in own_one["error"], "tenants are reached over https at public addresses alone"
        assert {each.path for each in http.seen} == {"/hook"}


# --- Each kind ---


class Mailbox:
    """Keeps what `aiosmtpd` is given."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.users: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: Any, auth: Any) -> AuthResult:
        self.users.append((auth.login, auth.password))
        return AuthResult(success=auth.password == b"hunter22")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return authority, path


def server_context(authority: trustme.CA) -> Any:
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def test_webhooks_are_signed_and_verified_by_the_specifications_library(
    embedded_broker: EmbeddedBroker, tmp_path: Path, authority: tuple[trustme.CA, Path]
) -> None:
    with HttpReceiver(tls=server_context(authority[0])) as receiver:
        destination = hook(receiver, ca_cert=str(authority[1]), secrets=[SIGNING, OLD_SIGNING], allow_http=False,
                           headers={"Authorization": "Bearer of-mine"})  # fmt: skip
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": destination}) as alerts:
            alerts.start()
            alerts.publish([incident("a"), close_of("a")])
            until(lambda: len(ids(receiver)) == 2, "both states")
            for got in receiver.taken:
                assert Webhook(SIGNING).verify(got.body, got.headers)["type"].startswith("incident.")
                Webhook(OLD_SIGNING).verify(got.body, got.headers)
                assert got.headers["authorization"] == "Bearer of-mine"


def test_chats_and_pagers_over_http(embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver) -> None:
    destinations = {
        "chat": {"kind": "slack", "url": f"{http.url}/slack", **LOCAL},
        "team": {"kind": "teams", "url": f"{http.url}/teams", **LOCAL},
        "pager": {"kind": "pagerduty", "url": f"{http.url}/pager", "routing_key": "k" * 32, **LOCAL},
        "phone": {"kind": "apprise", "url": f"json://127.0.0.1:{http.port}/apprise"},
    }
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        alerts.start()
        alerts.publish([incident("a"), close_of("a")])
        until(lambda: len(http.taken) == 8, "two states at four destinations")
        by_path = {path: [each.json() for each in http.taken if each.path.rstrip("/") == path] for path in
                   ("/slack", "/teams", "/pager", "/apprise")}  # fmt: skip
        assert "New incident" in by_path["/slack"][0]["text"]
        assert by_path["/teams"][1]["attachments"][0]["content"]["body"][0]["color"] == "Good"
        assert [each["event_action"] for each in by_path["/pager"]] == ["trigger", "resolve"]
        assert "user-a" in by_path["/apprise"][0]["title"]


def test_mails_over_starttls_with_a_password(
    embedded_broker: EmbeddedBroker, tmp_path: Path, authority: tuple[trustme.CA, Path]
) -> None:
    mailbox = Mailbox()
    controller = Controller(mailbox, "127.0.0.1", free_port(), tls_context=server_context(authority[0]),
                            require_starttls=True, auth_required=True, authenticator=mailbox.authenticate)  # fmt: skip
    controller.start()
    destination = {
        "kind": "email", "host": "127.0.0.1", "port": controller.port, "username": "sw", "password": "hunter22",
        "sender": "sw@example.com", "to": ["a@example.com", "b@example.com"], "ca_cert": str(authority[1]),
    }  # fmt: skip
    try:
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"mail": destination}) as alerts:
            alerts.start()
            alerts.publish([incident("a")])
            until(lambda: mailbox.mails, "the mail")
            (recipients, mail), *_ = mailbox.mails
            assert recipients == ["a@example.com", "b@example.com"]
            assert mail["Subject"] == "[high] A session of user-a moved"
            assert mail["Message-ID"] == "<a-1@sessionwatch.invalid>"
            assert {part.get_content_type() for part in mail.iter_parts()} == {"text/plain", "text/html"}
            assert mailbox.users == [(b"sw", b"hunter22")]
            assert "hunter22" not in alerts.logged()
    finally:
        controller.stop()


def collect(listener: socket.socket, found: list[bytes], tls: Any = None) -> None:
    while True:
        try:
            connection, _ = listener.accept()
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                found.append(stream.read())
        except OSError:
            return


def test_syslog_over_udp_tcp_and_tls(
    embedded_broker: EmbeddedBroker, tmp_path: Path, authority: tuple[trustme.CA, Path]
) -> None:
    found: dict[str, list[bytes]] = {"tcp": [], "tls": []}
    listeners = {}
    with closing(udp_socket()) as datagrams:
        for name, texts in found.items():
            listeners[name] = socket.create_server(("127.0.0.1", 0))
            tls = server_context(authority[0]) if name == "tls" else None
            threading.Thread(target=collect, args=(listeners[name], texts, tls), daemon=True).start()
        ports = {"udp": datagrams.getsockname()[1], **{name: each.getsockname()[1] for name, each in listeners.items()}}
        destinations = {
            name: {"kind": "syslog", "host": "127.0.0.1", "port": port, "transport": name, "ca_cert": str(authority[1]),
                   "format": "json" if name == "tcp" else "cef"}
            for name, port in ports.items()
        }  # fmt: skip
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
            alerts.start()
            alerts.publish([incident("a")])
            line = datagrams.recv(65_536).decode()
            assert re.match(
                r"<83>1 \S+Z \S+ sessionwatch - incident \[sessionwatch@32473 incident=\"a\" revision=\"1\"\] CEF:0\|",
                line,
            )
            until(lambda: all(found.values()), "both streams")
            for text in (found["tcp"][0], found["tls"][0]):
                length, _, rest = text.partition(b" ")
                assert int(length) == len(rest), "octet counting"
            assert json.loads(found["tcp"][0].partition(b"] ")[2])["class_uid"] == 2005
        for each in listeners.values():
            each.close()


def test_a_topic_and_a_file_get_the_documents(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    path.write_bytes(b'{"torn":')
    destinations = {
        "archive": {"kind": "file", "path": str(path)},
        "lake": {"kind": "kafka", "topic": "lake-of-alerts"},
    }
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        alerts.start()
        made = [incident("a"), close_of("a")]
        alerts.publish(made)
        until(lambda: len(path.read_bytes().splitlines()) == 3, "two lines behind a torn one")
        assert path.read_bytes().splitlines()[1:] == [each.message() for each in made]
        until(
            lambda: [each["metadata"]["uid"] for each in consumed(alerts, "lake-of-alerts")] == ["a-1", "a-2"], "both"
        )


def consumed(alerts: AlertProcess, topic: str) -> list[Any]:
    import asyncio  # noqa: PLC0415

    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415

    async def read() -> list[Any]:
        found: list[Any] = []
        async with AIOKafkaConsumer(**alerts.options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, partition) for partition in range(4)])
            while batches := await consumer.getmany(timeout_ms=500):
                found += [record for records in batches.values() for record in records]
        return [json.loads(each.value) for each in sorted(found, key=lambda each: each.timestamp)]

    return asyncio.run(read())


def test_tokens_are_verified_by_joserfc_and_sessions_revoked_by_policy(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    key = RSAKey.generate_key(2048)
    http.behave = lambda got: 404 if got.method == "DELETE" else 202
    destinations = {
        "idp": {"kind": "shared-signals", "url": f"{http.url}/events", "issuer": "https://us", "audience": "https://them",
                "private_key": key.as_pem(private=True).decode(), "key_id": "k1", "token": "bear-er", **LOCAL},
        "sessions": {"kind": "revoke", "url": f"{http.url}/sessions/{{session}}?t={{tenant}}", "token": "bear-er",
                     **LOCAL},
    }  # fmt: skip
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        process = alerts.start()
        alerts.publish([incident("a", severity=Severity.CRITICAL)])
        until(lambda: len(http.seen) == 1, "the change of risk alone")
        alerts.stop(process)
        alerts.set_policy("acme", {"alerting": {"revoke": True}})
        alerts.start()
        alerts.publish([incident("b", severity=Severity.CRITICAL), incident("c")])
        until(lambda: len(http.seen) == 5, "two changes of risk, two revocations of one session")
        tokens = [
            jwt.decode(each.body.decode(), key, algorithms=["RS256"]) for each in http.seen if each.method == "POST"
        ]
        assert {token.header["typ"] for token in tokens} == {"secevent+jwt"}
        assert all(token.claims["aud"] == "https://them" for token in tokens)
        kinds = [next(iter(token.claims["events"])).rpartition("/")[2] for token in tokens]
        assert sorted(kinds) == ["risk-level-change"] * 3 + ["session-revoked"]
        revoked = tokens[kinds.index("session-revoked")].claims["sub_id"]
        assert revoked["session"]["id"] == "sample-session"
        (call,) = [each for each in http.seen if each.method == "DELETE"]
        assert call.path == "/sessions/sample-session?t=acme"
        assert "bear-er" not in alerts.logged()


def needs_alertmanager() -> str:
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if found is None:
        assert not os.environ.get("CI_REQUIRE_ALERTMANAGER"), "Alertmanager is not installed"
        pytest.skip("Alertmanager is not installed (Debian: prometheus-alertmanager)")
    return found


def test_alertmanager_holds_and_resolves(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    binary, port = needs_alertmanager(), free_port()
    config = tmp_path / "am.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [binary, f"--config.file={config}", f"--storage.path={tmp_path}/am", "--cluster.listen-address=",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alive() -> dict[str, Any] | None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=2) as answer:
                return {each["labels"]["severity"]: each for each in json.load(answer)}
        except (URLError, OSError):
            return None

    destination = {
        "kind": "alertmanager",
        "url": f"http://127.0.0.1:{port}",
        "allow_http": True,
        "labels": {"team": "soc"},
    }
    try:
        until(lambda: alive() is not None, "Alertmanager")
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"am": destination}) as alerts:
            alerts.start()
            alerts.publish([incident("a")])
            until(lambda: set(alive() or ()) == {"high"}, "the alert")
            assert alive()["high"]["labels"]["team"] == "soc"  # type: ignore[index]
            alerts.publish([incident("a", 2, severity=Severity.CRITICAL)])
            until(lambda: set(alive() or ()) == {"critical"}, "the alert under its new severity alone")
            alerts.publish([close_of("a", 3)])
            until(lambda: alive() == {}, "its end")
    finally:
        server.kill()
        server.wait()


# --- Safety ---


@pytest.mark.parametrize(
    ("url", "more", "why"),
    [
        ("http://127.0.0.1:{port}/hook", {}, "plain HTTP"),
        ("http://127.0.0.1:{port}/hook", {"allow_http": True}, "loopback address"),
        ("http://localhost:{port}/hook", {"allow_http": True}, "loopback address"),
        ("http://[::ffff:127.0.0.1]:{port}/hook", {"allow_http": True}, "loopback address"),
        ("http://0x7f000001:{port}/hook", {"allow_http": True}, "address"),
        ("http://169.254.169.254/latest", {"allow_http": True, "allow_private": True}, "metadata address"),
        ("http://10.0.0.1/hook", {"allow_http": True}, "private or reserved address"),
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver, url: Any, more: Any, why: Any
) -> None:
    destination = {"kind": "webhook", "url": url.format(port=http.port), **more}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": destination}) as alerts:
        done = alerts.command("alerts", "test", "soc")
        assert done.returncode == 1
        assert why in done.stderr.decode()
        assert not http.seen


def test_redirects_are_not_followed(embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver) -> None:
    http.behave = lambda _: (302, {"Location": f"{http.url}/elsewhere"})
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}) as alerts:
        done = alerts.command("alerts", "test", "soc")
        assert done.returncode == 1
        assert "redirects are not followed" in done.stderr.decode()
        assert {each.path for each in http.seen} == {"/hook"}


def test_secrets_are_nowhere(embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver) -> None:
    path = "S3cr3tPath0f51ack"
    # The end of the secret lies where errors are cut.
    http.behave = lambda got: (500, {"X-Echo": got.path}, "x" * 275 + got.path)
    chat = {"kind": "slack", "url": f"{http.url}/services/{path}", **LOCAL}
    away = {"kind": "slack", "url": f"http://127.0.0.1:{free_port()}/services/{path}", **LOCAL}
    wrong = {"kind": "slack", "url": f"http://nosuch.invalid/services/{path}", **LOCAL}
    destinations = {"chat": chat, "away": away, "wrong": wrong}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations, FAST) as alerts:
        process = alerts.start()
        alerts.publish([incident("a")])
        until(lambda: len(http.seen) >= 3, "some attempts")
        with urlopen(f"http://127.0.0.1:{alerts.port}/metrics") as answer:
            metrics = answer.read().decode()
        assert 'sessionwatch_alert_deliveries_total{destination="chat",result="retry"}' in metrics
        waiting = alerts.command("alerts", "list", "--json")
        doctor = alerts.command("doctor")
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        for text in (alerts.logged(), metrics, waiting.stdout.decode(), doctor.stdout.decode(), command_line.decode()):
            assert path[:6] not in text
        for name in destinations:
            done = alerts.command("alerts", "test", name)
            assert done.returncode == 1
            assert path[:6] not in (done.stderr + done.stdout).decode()


def test_without_a_destination_the_log_says_so(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {}) as alerts:
        process = alerts.start()
        until(lambda: "no destination is set" in alerts.logged(), "the warning")
        assert alerts.stop(process) == 0


def test_a_destination_that_cannot_be_used_is_an_error_at_the_start(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    bad = {"kind": "shared-signals", "url": "https://r", "issuer": "i", "audience": "a", "private_key": "hunter22"}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"idp": bad}) as alerts:
        assert alerts.start().wait(30) == 2
        assert "alerts.destinations.idp: private_key is no private key" in alerts.logged()
        assert "hunter22" not in alerts.logged()


def test_commands_show_where_an_incident_would_go(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver
) -> None:
    destinations = {"soc": hook(http), "pager": {"kind": "pagerduty", "routing_key": "k" * 32}}
    with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, destinations) as alerts:
        document = incident("a", severity=Severity.MEDIUM).message()
        routes = json.loads(alerts.command("alerts", "route", "--json", stdin=document).stdout)["routes"]
        assert {each["destination"]: each["decision"].partition(":")[0] for each in routes} == {
            "soc": "delivered at once", "pager": "not routed"
        }  # fmt: skip
        assert not http.seen
        assert alerts.command("alerts", "route", stdin=b"{}").returncode == 2
        assert alerts.command("alerts", "test", "soc").returncode == 0
        assert "TEST" in http.taken[0].body.decode()
        assert alerts.command("alerts", "test", "nobody").returncode == 2


def test_every_attempt_is_in_clickhouse(
    embedded_broker: EmbeddedBroker, tmp_path: Path, http: HttpReceiver, store: Any, database: str
) -> None:
    dsn = store.address.dsn(Role.WRITER, database)
    with closing(connect(dsn)) as client:
        migrations.up(client)
    http.behave = lambda _: 200 if len(http.seen) >= 2 else 503
    with AlertProcess(
        embedded_broker.bootstrap_servers, tmp_path, {"soc": hook(http)}, {**FAST, "SESSIONWATCH_CLICKHOUSE__DSN": dsn}
    ) as alerts:
        process = alerts.start()
        alerts.publish([msgspec.structs.replace(incident("a"), detected_at=now_ms() - 400 * 3_600_000), incident("b")])
        until(lambda: ids(http) == ["b-1"], "the delivery")
        assert alerts.stop(process) == 0
    with closing(connect(dsn)) as client:
        rows = client.query(
            "SELECT incident_uid, attempt, result, code, message_id FROM deliveries FINAL ORDER BY 1, 2"
        ).result_rows
        assert rows == [("a", 0, "left-out", 0, "a-1"), ("b", 1, "retry", 503, "b-1"), ("b", 2, "retry", 503, "b-1"),
                        ("b", 3, "delivered", 200, "b-1")]  # fmt: skip
