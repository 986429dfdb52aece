"""Shared Signals: security event tokens (RFC 8417) pushed over HTTP (RFC 8935), with CAEP or Okta events.

Events follow OpenID CAEP 1.0 and, for risk, Okta's SSF receiver
(https://developer.okta.com/docs/reference/api/risk-events). Each token carries one event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from schemas.finding import Severity
from worker.alerts.destinations.base import HttpSender
from worker.alerts.http import Request
from worker.alerts.routing import revocable_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.alerts.alert import Alert
    from worker.alerts.config import SharedSignals

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
OKTA_RISK = "https://schemas.okta.com/secevent/okta/event-type/user-risk-change"
SESSION_REVOKED, ASSURANCE, RISK = f"{CAEP}session-revoked", f"{CAEP}assurance-level-change", f"{CAEP}risk-level-change"
HEADERS = {"Content-Type": "application/secevent+jwt", "Accept": "application/json"}
DOWNGRADE = "auth-downgrade"
Claims = dict[str, Any]


class SharedSignalsSender(HttpSender):
    """Pushes tokens to a receiver."""

    def __init__(self, config: SharedSignals, clock: Callable[[], int]) -> None:
        super().__init__(config, clock)
        self._config = config
        self._key = signing_key(config)
        self._headers = dict(HEADERS)
        if config.token is not None:
            self._headers["Authorization"] = f"Bearer {config.token.get_secret_value()}"

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return one request for each event."""
        url = self._config.url.get_secret_value()
        return [Request(url, self._signed(each).encode(), self._headers) for each in tokens(alert, self._config)]

    def _signed(self, claims: Claims) -> str:
        header = {"alg": self._config.algorithm, "typ": "secevent+jwt"}
        if self._config.key_id:
            header["kid"] = self._config.key_id
        return jwt.encode(header, claims, self._key, algorithms=[self._config.algorithm])


def signing_key(config: SharedSignals) -> RSAKey | ECKey:
    """Return the signing key.

    Raises:
        ValueError: it is not a private key for the algorithm.
    """
    text = config.private_key.get_secret_value().replace("\\n", "\n")
    kind = RSAKey if config.algorithm == "RS256" else ECKey
    try:
        key = kind.import_key(orjson.loads(text) if text.lstrip().startswith("{") else text)
    except Exception:  # noqa: BLE001  whatever the library raises, its words may hold parts of the key
        raise ValueError(f"private_key is no private key for {config.algorithm}") from None
    if not key.is_private:
        raise ValueError("private_key is a public key")
    return key


def tokens(alert: Alert, config: SharedSignals) -> list[Claims]:
    """Return the claims of the tokens for an alert; an empty list for an incident without a user."""
    if not alert.incident.user_id:
        return []
    user = _user(alert.incident.user_id, config)
    return [_claims(alert, config, number, event) for number, event in enumerate(_events(alert, config, user))]


def _events(alert: Alert, config: SharedSignals, user: Claims) -> Iterable[tuple[str, Claims, Claims]]:
    """Yield event type, subject and event."""
    incident, common = alert.incident, _common(alert)
    level = _level(alert)
    if config.dialect == "okta":
        risk = {"current_level": level, "previous_level": "low" if level != "low" else "high", **common}
        yield OKTA_RISK, {"user": user}, risk
    else:
        risk = {"principal": "USER", "current_level": level.upper(), "risk_reason": incident.leading, **common}
        yield RISK, user, risk
    if incident.is_resolved:
        return
    if any(
        each.detection == DOWNGRADE and each.is_alert and each.severity >= Severity.HIGH for each in incident.findings
    ):
        fall = {"namespace": "NIST-AAL", "current_level": "nist-aal1", "previous_level": "nist-aal2"}
        yield ASSURANCE, user, {**fall, "change_direction": "decrease", **common}
    if alert.policy.revoke:
        for uid in revocable_sessions(incident):
            session = {"format": "opaque", "id": uid}
            subject = {"user": user, "session": session}
            yield SESSION_REVOKED, subject, common


def _claims(alert: Alert, config: SharedSignals, number: int, event: tuple[str, Claims, Claims]) -> Claims:
    kind, subject, body = event
    claims: Claims = {
        "iss": config.issuer,
        "aud": config.audience,
        "jti": f"{alert.id}-{number}",
        "iat": alert.now // 1000,
        "txn": alert.incident.uid,
    }
    if config.dialect == "okta":
        subject = subject if "user" in subject else {"user": subject}
        return {**claims, "events": {kind: {"subject": subject, **body}}}
    complete = {"format": "complex", **subject} if "user" in subject else subject
    return {**claims, "sub_id": complete, "events": {kind: body}}


def _common(alert: Alert) -> Claims:
    return {
        "event_timestamp": alert.incident.last_event_at // 1000,
        "initiating_entity": "system",
        "reason_admin": {"en": alert.message.title},
    }


def _level(alert: Alert) -> str:
    if alert.incident.is_resolved or alert.incident.severity <= Severity.LOW:
        return "low"
    return "high" if alert.incident.severity >= Severity.HIGH else "medium"


def _user(user_id: str, config: SharedSignals) -> Claims:
    if config.subject == "email":
        return {"format": "email", "email": user_id}
    if config.subject == "opaque":
        return {"format": "opaque", "id": user_id}
    return {"format": "iss_sub", "iss": config.subject_issuer or config.issuer, "sub": user_id}
