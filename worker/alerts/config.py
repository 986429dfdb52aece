"""Settings of alert delivery: destinations, routes, retries and limits.

A destination is a table `[alerts.destinations.NAME]` with a `kind`. Whatever grants access is a `SecretStr`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from schemas.alerting import Silence, Tenants
from schemas.finding import SEVERITIES

Severity = Literal["informational", "low", "medium", "high", "critical"]
DestinationName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Seconds = Annotated[float, Field(gt=0)]
HOUR = 3_600


def _http_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("https://", "http://")):
        raise ValueError("an address that begins with https:// is needed")
    return secret


SecretUrl = Annotated[SecretStr, AfterValidator(_http_url)]


class Group(BaseModel):
    """Base of the groups of settings here."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Destination(Group):
    """What every destination has."""

    min_severity: Severity = "medium"
    """Incidents below this severity are not delivered here."""
    enabled: bool = True
    """`false`: nothing is delivered here, and no delivery is queued."""
    timeout_s: Seconds = 15
    """Time-out of one attempt, seconds."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Concurrent attempts; those of one incident are made one after another."""
    rate_per_s: Annotated[float, Field(gt=0)] = 50
    """Messages per second, on average."""
    burst: Annotated[int, Field(ge=1)] = 50
    """Messages that may be sent at once after a pause."""
    allow_private: bool = False
    """Allow private and loopback addresses. Link-local and metadata addresses need `allowed_networks`."""
    allowed_networks: tuple[str, ...] = ()
    """Networks (CIDR) that are allowed although they are not public."""
    template: Path | None = None
    """A Jinja2 template of your own for the text of the message."""

    def severity_id(self) -> int:
        """Return the index of `min_severity` in `schemas.finding.SEVERITIES`."""
        return SEVERITIES.index(self.min_severity)


class HttpDestination(Destination):
    """What every destination reached by HTTP has."""

    allow_http: bool = False
    """Allow plain HTTP."""
    ca_cert: Path | None = None
    """CA certificates (PEM) to verify the server with; unset: the system's."""


class Webhook(HttpDestination):
    """A webhook by Standard Webhooks 1.0."""

    kind: Literal["webhook"]
    url: SecretUrl
    """Address the incident is posted to."""
    secrets: tuple[SecretStr, ...] = ()
    """Signing secrets (`whsec_…`), the current one first; all sign, so that receivers can rotate."""
    headers: dict[str, SecretStr] = {}
    """Further headers, such as `Authorization`."""


class Slack(HttpDestination):
    """A Slack incoming webhook; also Mattermost and Rocket.Chat, which take the same."""

    kind: Literal["slack"]
    url: SecretUrl
    """The incoming webhook's address; it is a secret."""
    rate_per_s: Annotated[float, Field(gt=0)] = 1
    burst: Annotated[int, Field(ge=1)] = 3
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


class Teams(HttpDestination):
    """A Microsoft Teams webhook made by Workflows, which takes Adaptive Cards."""

    kind: Literal["teams"]
    url: SecretUrl
    """The workflow's address; it is a secret."""
    rate_per_s: Annotated[float, Field(gt=0)] = 1
    burst: Annotated[int, Field(ge=1)] = 3
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


class PagerDuty(HttpDestination):
    """PagerDuty Events API v2."""

    kind: Literal["pagerduty"]
    routing_key: SecretStr
    """Integration key of the service."""
    url: SecretUrl = SecretStr("https://events.pagerduty.com/v2/enqueue")
    """Address of the events API; `https://events.eu.pagerduty.com/v2/enqueue` in the EU."""
    min_severity: Severity = "high"
    rate_per_s: Annotated[float, Field(gt=0)] = 2
    burst: Annotated[int, Field(ge=1)] = 10


class Alertmanager(HttpDestination):
    """Prometheus Alertmanager, API v2."""

    kind: Literal["alertmanager"]
    url: SecretUrl
    """Base address, such as `http://alertmanager:9093`."""
    username: str | None = None
    """User for basic authentication."""
    password: SecretStr | None = None
    """Its password."""
    labels: dict[str, str] = {}
    """Further labels of every alert, for Alertmanager's routes."""
    hold_hours: Annotated[float, Field(gt=0)] = 24
    """Hours after which Alertmanager resolves an alert by itself."""
    allow_private: bool = True


class Email(Destination):
    """E-mail over SMTP."""

    kind: Literal["email"]
    host: str
    """SMTP server."""
    port: Annotated[int, Field(gt=0, lt=65_536)] = 587
    """Its port."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """Encryption; `none` only towards a relay on the same machine or network."""
    username: str | None = None
    """SMTP user."""
    password: SecretStr | None = None
    """SMTP password."""
    sender: str
    """Address mails come from."""
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    """Addresses mails go to."""
    ca_cert: Path | None = None
    """CA certificates (PEM) to verify the server with; unset: the system's."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    rate_per_s: Annotated[float, Field(gt=0)] = 1
    burst: Annotated[int, Field(ge=1)] = 10
    allow_private: bool = True


class Syslog(Destination):
    """Syslog, RFC 5424."""

    kind: Literal["syslog"]
    host: str
    """Syslog server."""
    port: Annotated[int, Field(gt=0, lt=65_536)] = 6514
    """Its port."""
    transport: Literal["tls", "tcp", "udp"] = "tls"
    """TCP and TLS frame messages by octet counting (RFC 6587, RFC 5425); with UDP, losses go unnoticed."""
    format: Literal["cef", "json", "text"] = "cef"
    """Format of the message: CEF, the OCSF document, or one line of text."""
    facility: Annotated[int, Field(ge=0, le=23)] = 10
    """Syslog facility; 10 is security."""
    ca_cert: Path | None = None
    """CA certificates (PEM) to verify the server with; unset: the system's."""
    allow_private: bool = True


class KafkaTopic(Destination):
    """A Kafka topic that gets the OCSF documents."""

    kind: Literal["kafka"]
    topic: str
    """Topic on the Kafka that `kafka` leads to."""
    min_severity: Severity = "informational"
    rate_per_s: Annotated[float, Field(gt=0)] = 1_000
    burst: Annotated[int, Field(ge=1)] = 1_000


class File(Destination):
    """A file of OCSF documents, one JSON object a line."""

    kind: Literal["file"]
    path: Path
    """File to append to; it may be rotated by renaming it."""
    min_severity: Severity = "informational"
    rate_per_s: Annotated[float, Field(gt=0)] = 1_000
    burst: Annotated[int, Field(ge=1)] = 1_000
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


class SharedSignals(HttpDestination):
    """Security event tokens (RFC 8417) pushed to a receiver (RFC 8935)."""

    kind: Literal["shared-signals"]
    url: SecretUrl
    """The receiver's push endpoint; Okta's is `https://ORG.okta.com/security/api/v1/security-events`."""
    issuer: str
    """`iss` of the tokens, as the receiver knows this transmitter."""
    audience: str
    """`aud` of the tokens."""
    private_key: SecretStr
    """Private key (PEM, or a JWK as JSON) that signs tokens."""
    key_id: str = ""
    """`kid` in the tokens' header."""
    algorithm: Literal["RS256", "ES256"] = "RS256"
    """How tokens are signed."""
    token: SecretStr | None = None
    """Bearer token for the endpoint, if it asks for one."""
    subject: Literal["iss_sub", "opaque", "email"] = "iss_sub"
    """Subject identifier format (RFC 9493) of the user."""
    subject_issuer: str = ""
    """`iss` of the user's subject; empty: `issuer`."""
    dialect: Literal["caep", "okta"] = "caep"
    """Event type of a change of risk: CAEP's `risk-level-change`, or Okta's `user-risk-change`."""


class Revoke(HttpDestination):
    """An endpoint that revokes sessions, called only where a tenant's policy allows it."""

    kind: Literal["revoke"]
    url: SecretUrl
    """URL template with `{session}`, `{user}` and `{tenant}`, such as `https://idp/sessions/{session}`."""
    method: Literal["DELETE", "POST"] = "DELETE"
    """HTTP method."""
    token: SecretStr | None = None
    """Bearer token."""
    headers: dict[str, SecretStr] = {}
    """Further headers."""
    min_severity: Severity = "high"


class Apprise(Destination):
    """Any service that Apprise knows (Opsgenie, ntfy, Telegram, …); needs the extra `apprise`."""

    kind: Literal["apprise"]
    url: SecretStr
    """Apprise URL, such as `opsgenie://APIKEY`; it is a secret."""
    rate_per_s: Annotated[float, Field(gt=0)] = 1
    burst: Annotated[int, Field(ge=1)] = 3
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


AnyDestination = Annotated[
    Webhook
    | Slack
    | Teams
    | PagerDuty
    | Alertmanager
    | Email
    | Syslog
    | KafkaTopic
    | File
    | SharedSignals
    | Revoke
    | Apprise,
    Field(discriminator="kind"),
]


class Route(Group):
    """Which incidents go where; the first route that matches decides."""

    destinations: tuple[DestinationName, ...]
    """Names of the destinations."""
    tenants: Tenants = ()
    """Tenants, `*` for any part of a name; empty: all."""
    min_severity: Severity = "informational"
    """Lowest severity that matches."""
    detections: tuple[str, ...] = ()
    """Detections, one of which must be in the incident; empty: any."""
    networks: tuple[str, ...] = ()
    """Networks (CIDR, or `AS` and a number), one of which must be in the incident; empty: any."""
    proceed: bool = False
    """Also evaluate the routes after this one."""


class AlertSettings(Group):
    """Delivery of incidents; `sessionwatch alerts` reads these."""

    group_id: str = "sessionwatch-alerts"
    """Consumer group; processes of one group share the partitions."""
    destinations: dict[DestinationName, AnyDestination] = {}
    """Destinations by name; see docs/alerting.md."""
    tenant_secrets: dict[str, dict[str, SecretStr]] = {}
    """Secrets that the policy of a tenant may refer to by name, by tenant."""
    routes: tuple[Route, ...] = ()
    """Which incidents go where; none: every incident goes to every destination."""
    silences: tuple[Silence, ...] = ()
    """Silences: what is not delivered, until when and why; tenants have their own in their policies."""
    retry_delays_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=32)] = (
        5, 30, 120, 600, 1_800, 2 * HOUR, 8 * HOUR, 20 * HOUR, 36 * HOUR
    )  # fmt: skip
    """Seconds between attempts; the defaults make ten attempts over about 67 hours."""
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    """Consecutive failures after which the circuit breaker of a destination opens."""
    breaker_s: Seconds = 15
    """Seconds before an open circuit breaker allows a probe; doubled with each failed probe, up to `breaker_max_s`."""
    breaker_max_s: Seconds = 300
    """Longest time between two probes, seconds."""
    digest_after: Annotated[int, Field(ge=2)] = 20
    """Waiting messages of a chat or mail destination above which those below critical become one digest."""
    max_waiting_states: Annotated[int, Field(ge=2)] = 8
    """Most states of one incident that wait for one destination; of more, those between first and last are dropped."""
    retention_days: Annotated[int, Field(ge=4)] = 14
    """Days after an incident's last delivery that its deliveries are kept in the journal."""
    max_age_hours: Annotated[float, Field(gt=0)] = 72
    """Hours after which an incident that was not read yet is not delivered."""
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 6067
    """Port of metrics and health of `sessionwatch alerts`; 0: a free one. Host and token are those of `web`."""
    grafana_url: str = ""
    """Base address of Grafana for links; empty: messages have no such link."""
    console_url: str = ""
    """Address template with `{incident}`, `{tenant}` and `{user}` of another console to link to."""

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        named = {name for route in self.routes for name in route.destinations}
        if unknown := sorted(named - self.destinations.keys()):
            raise ValueError(f"a route names a destination that does not exist: {', '.join(unknown)}")
        return self

    def secret_texts(self) -> list[str]:
        """Return every secret in these settings as text, longest first, to remove them from errors and logs."""
        return sorted(set(secret_texts(self)), key=len, reverse=True)


def secret_texts(value: Any) -> list[str]:
    """Return every secret below a value as text."""
    if isinstance(value, SecretStr):
        return [value.get_secret_value()] if value.get_secret_value() else []
    if isinstance(value, BaseModel):
        return [text for name in type(value).model_fields for text in secret_texts(getattr(value, name))]
    if isinstance(value, dict):
        return [text for each in value.values() for text in secret_texts(each)]
    if isinstance(value, tuple | list):
        return [text for each in value for text in secret_texts(each)]
    return []
