"""Settings: environment `SESSIONWATCH_…` (nested with `__`) over a TOML file over defaults.

The file is the one named by `--config`, else by `SESSIONWATCH_CONFIG`, else `./sessionwatch.toml` if it exists. An
unknown setting is an error, in the file and in a variable that begins with the prefix.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnparsedError

from schemas.sources import source_number
from schemas.text import validation_words
from worker.alerts.config import AlertSettings
from worker.pipeline.privacy import Addresses, Pseudonyms
from worker.sessions.incidents import IncidentLimits
from worker.sessions.limits import DAY, HOUR, MINUTE, SECOND, Limits

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

PREFIX, NESTING = "SESSIONWATCH_", "__"
CONFIG_VARIABLE = "SESSIONWATCH_CONFIG"
DEFAULT_FILE = Path("sessionwatch.toml")
LEAST_KEY = 32
"""Characters of the key of pseudonyms: 128 bits when they are hexadecimal digits."""

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^\w*$")]


_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class SettingsError(Exception):
    """The settings are invalid; the message names the setting and the reason, and shows no value."""


class SettingsGroup(BaseModel):
    """Base of a group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _is_address(text: str) -> bool:
    """Return whether a text is host, host:port or [IPv6]:port.

    >>> [_is_address(each) for each in ("a", "a:1", "[::1]:9092", "", ":1", "a:b:c", "a:70000", "http://a:1")]
    [True, True, True, False, False, False, False, False]
    """
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.port != 0 and parts.netloc == text and "@" not in text
    except ValueError:
        return False


class KafkaSettings(BaseModel):
    """Connection to Kafka."""

    model_config = ConfigDict(extra="forbid")

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Bootstrap brokers: host:port, comma-separated.")
    client_id: str = Field("sessionwatch", description="Client id that brokers log.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Encryption and authentication of connections."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism."
    )
    sasl_username: str | None = Field(None, description="SASL user.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_cafile: Path | None = Field(None, description="CA certificates (PEM); unset: the system's.")
    ssl_certfile: Path | None = Field(None, description="Client certificate (PEM) for mutual TLS.")
    ssl_keyfile: Path | None = Field(None, description="Its private key (PEM).")
    ssl_password: SecretStr | None = Field(None, description="Password of the private key.")
    ssl_check_hostname: bool = Field(default=True, description="Check that certificates name the host.")
    request_timeout_ms: int = Field(40_000, gt=0, description="Time-out of a request, milliseconds.")

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            if not _is_address(address.strip()):
                raise ValueError(f"{address.strip()!r} is no host:port with a port from 1 to 65535")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError("SASL needs sasl_username and sasl_password")
        return self


class SourceTopic(BaseModel):
    """How the records of a further input topic are read."""

    model_config = ConfigDict(extra="forbid")

    mapping: str = Field("auto", description="As `input.mapping`.")
    tenant_id: str = Field("", description="As `input.tenant_id`.")


class TopicSettings(BaseModel):
    """Names and shape of the topics."""

    model_config = ConfigDict(extra="forbid")

    events: str = Field("auth.sessions", description="Input: session events.")
    sources: dict[str, SourceTopic] = Field(
        {}, description="Further input topics: name to `mapping` and `tenant_id`, see docs/input.md."
    )
    by_user: str = Field("auth.sessions.by-user", description="Events forwarded to their user's partition.")
    starts: str = Field("auth.sessions.starts", description="Session starts, by uid and by network.")
    dlq: str = Field("auth.sessions.dlq", description="Dead letters.")
    findings: str = Field("session.findings", description="Findings (OCSF).")
    incidents: str = Field("session.incidents", description="Incidents (OCSF).")
    deliveries: str = Field("session.deliveries", description="State of each delivery, compacted.")
    feedback: str = Field("session.feedback", description="Feedback: investigating, true or false positive.")
    policies: str = Field("session.policies", description="Tenant policies, compacted.")
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of the input, forward and changelog topics.")
    replication: int = Field(1, ge=1, description="Replicas of each partition.")
    retention_days: int = Field(7, ge=1, description="Days that events, findings and dead letters are kept.")

    @field_validator("*")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and (not _TOPIC.fullmatch(value) or value in (".", "..")):
            raise ValueError("a topic's name has 1 to 249 of the characters a-z A-Z 0-9 . _ -")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        taken = {value for name, value in self if isinstance(value, str)}
        if shared := sorted(taken & self.sources.keys()):
            raise ValueError(f"topics.sources: {shared[0]} is the name of another topic")
        if len({source_number(name) for name in self.sources}) != len(self.sources):
            raise ValueError("topics.sources: two names have the same hash; rename one of the topics")
        return self


class ClickHouseSettings(SettingsGroup):
    """Connection to ClickHouse, and the layout of its tables."""

    dsn: SecretStr | None = None
    """`clickhouse://user:password@host:8123/database`, or `chdb:///directory` for an embedded store; no default."""
    secure: bool = False
    """Use TLS (port 8443 unless the DSN names one)."""
    ca_cert: Path | None = None
    """CA certificates (PEM) to verify the server with; unset: the system's."""
    client_cert: Path | None = None
    """Client certificate (PEM) for mutual TLS."""
    client_key: Path | None = None
    """Key (PEM) of the client certificate."""
    verify: bool = True
    """Verify the server's certificate."""
    connect_timeout_s: Positive = 10
    """Time-out of a connection, seconds."""
    send_receive_timeout_s: Positive = 60
    """Time-out of an insert or a query, seconds."""
    manage_access: bool = False
    """`migrate up` also creates roles, quotas and row policies; needs a server and a user with access management."""
    cluster: Name = ""
    """Cluster on which migrations run (`ON CLUSTER`); empty: one server."""
    replicated: bool = False
    """Create tables with Replicated engines, with path and replica from the servers' configuration. Experimental."""
    shard_database: Name = ""
    """Database of each shard's local tables; the DSN's then holds Distributed ones. Experimental: tested on one."""
    event_partitions: Literal["month", "week", "day"] = "month"
    """Period of one partition of `session_events`; applies when the table is created."""
    finding_partitions: Literal["month", "week", "day"] = "month"
    """Period of one partition of `findings`; applies when the table is created."""

    @model_validator(mode="after")
    def _sharded_over_something(self) -> Self:
        if self.shard_database and not self.cluster:
            raise ValueError("clickhouse.shard_database requires clickhouse.cluster")
        return self

    def options(self) -> dict[str, Any]:
        """Return the options of a connection to a server, as clickhouse-connect names them."""
        given = {"ca_cert": self.ca_cert, "client_cert": self.client_cert, "client_cert_key": self.client_key}
        return {
            "secure": self.secure,
            "verify": self.verify,
            "connect_timeout": self.connect_timeout_s,
            "send_receive_timeout": self.send_receive_timeout_s,
            **{name: str(path) for name, path in given.items() if path is not None},
        }


class RetentionSettings(SettingsGroup):
    """Days that ClickHouse keeps rows; `migrate up` applies them. Unset: unchanged; 0: without limit."""

    session_events_days: NotNegative | None = None
    """Days, by event time, that `session_events` keeps."""
    sessions_days: NotNegative | None = None
    """Days after its last event that `sessions` keeps a session."""
    findings_days: NotNegative | None = None
    """Days after its first occurrence that `findings` keeps a finding."""
    incidents_days: NotNegative | None = None
    """Days after its last change that `incidents` keeps an incident."""
    feedback_days: NotNegative | None = None
    """Days that `feedback` keeps an entry."""
    deliveries_days: NotNegative | None = None
    """Days that `deliveries` keeps an attempt."""
    events_by_minute_days: NotNegative | None = None
    """Days of the rollup by minute; may be longer than `session_events`."""
    networks_by_day_days: NotNegative | None = None
    """Days of the rollup by network and day."""
    users_by_day_days: NotNegative | None = None
    """Days of the rollup by user and day."""

    def by_table(self) -> dict[str, int]:
        """Return the days of the tables that have a setting."""
        return {name.removesuffix("_days"): days for name, days in self if days is not None}


class GeoSettings(SettingsGroup):
    """Geo databases in MaxMind's format."""

    city_db: Path | None = None
    """City database (`.mmdb`); unset: places come from `location` alone."""
    asn_db: Path | None = None
    """ASN database (`.mmdb`); unset: networks are their /24 or /64."""
    networks: Path | None = None
    """CSV of networks with a known kind (`match,kind,name,source`); its lines take precedence over the shipped ones."""
    threat_lists: tuple[Path, ...] = ()
    """Files of networks, addresses or AS numbers known for attacks, one a line; `listed-network` names them."""
    reload_interval_s: Positive = 60
    """Seconds between checks for geo files and threat lists that were replaced."""


class WebSettings(SettingsGroup):
    """The worker's own web server."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066
    """Port of metrics, health and live views; 0: a free one, which the log names."""
    advertised_host: str | None = None
    """Name or address at which other workers reach this one; unset: `host`, or the machine's name for a wildcard."""
    token: SecretStr | None = None
    """Bearer token for metrics and live views; required to listen on anything but loopback."""
    forward_over_http: bool = False
    """Workers may send the token to one another over plain HTTP, to answer requests about users of other workers."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may use, beside addresses, `localhost`, `host`, `advertised_host` and the machine's."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not (_is_loopback(self.host) or (self.token and self.token.get_secret_value())):
            raise ValueError(
                "web.token is required to listen on anything but loopback, because live views show personal data"
            )
        return self

    def hosts(self) -> set[str]:
        """Return the host names that requests may use."""
        return {self.host, gethostname(), *filter(None, [self.advertised_host]), *self.allowed_hosts}

    def reachable_host(self) -> str:
        """Return the host at which other workers reach this one, as written in URLs."""
        host = self.advertised_host or (gethostname() if _is_any(self.host) else self.host)
        return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_any(host: str) -> bool:
    return host in {"0.0.0.0", "::"}  # noqa: S104  asked, not bound


class DeliverySettings(SettingsGroup):
    """Inserts into ClickHouse."""

    max_rows: Positive = 20_000
    """Rows at which an insert is made at once."""
    max_delay_ms: Positive = 1_000
    """Longest time that a row waits for others before it is inserted, milliseconds; findings do not wait for rows."""
    max_inflight_rows: Positive = 100_000
    """Rows and messages that are not durable yet at which the worker pauses consumption."""
    max_inflight_bytes: Positive = 100_663_296
    """Bytes of records whose outputs are not durable yet at which the worker pauses consumption."""
    stall_s: Seconds = 15.0
    """Seconds after which the worker reports unready because outputs are not durable yet."""
    retry_max_delay_s: Seconds = 5.0
    """Longest delay between two attempts of an insert, seconds; the first retry comes after a fraction of a second."""


class StateSettings(SettingsGroup):
    """State of users."""

    store: Literal["memory", "rocksdb"] = "memory"
    """`memory`, or `rocksdb` (extra `rocksdb`) on disk below `data_dir`."""
    allowed_lateness_minutes: Positive = 120
    """Allowed lateness: minutes behind the user's newest event within which events are judged; see `window_events`."""
    window_events: Annotated[int, Field(ge=4)] = 256
    """Newest events per user among which late events are put in order; at least a quarter is always available."""
    grouping_minutes: Positive = 60
    """Minutes, of event time, within which repeated findings are one finding with a count."""
    clock_skew_s: NotNegative = 60
    """Tolerated difference between clocks, seconds."""
    revocation_grace_s: NotNegative = 30
    """Seconds after a deletion in which activity counts as a request that was in progress."""
    ended_ttl_days: Positive = 7
    """Days that ended sessions are kept in the state."""
    idle_ttl_days: Positive = 400
    """Days that a user without events is kept in the state; also the longest dormancy that can be detected."""
    quarantine_hours: NotNegative = 24
    """Hours after a finding that casts doubt on who holds a session in which nothing is learned from the session."""
    sessions: Positive = 64
    """Sessions kept per user; ended and oldest ones are evicted first."""

    def limits(self) -> Limits:
        """Return the bounds and times of the state."""
        return Limits(
            clock_skew=self.clock_skew_s * SECOND,
            allowed_lateness=self.allowed_lateness_minutes * MINUTE,
            window=self.window_events,
            grouping=self.grouping_minutes * MINUTE,
            revocation_grace=self.revocation_grace_s * SECOND,
            ended_ttl=self.ended_ttl_days * DAY,
            idle_ttl=self.idle_ttl_days * DAY,
            quarantine=self.quarantine_hours * HOUR,
            sessions=self.sessions,
        )


class IncidentSettings(SettingsGroup):
    """Which findings of a user are one incident."""

    quiet_minutes: Positive = 240
    """Minutes without an alerting finding of the user after which an incident is resolved."""
    retention_days: Positive = 7
    """Days a resolved incident is kept in the state; until then another finding of the same session reopens it."""

    def limits(self) -> IncidentLimits:
        """Return the bounds and times of incidents."""
        return IncidentLimits(quiet=self.quiet_minutes * MINUTE, retention=self.retention_days * DAY)


class StreamSettings(SettingsGroup):
    """The consumer group."""

    group_id: str = "sessionwatch"
    """Consumer group; the workers of a group share the partitions."""
    session_timeout_s: Seconds = 10.0
    """Seconds without a heartbeat after which a worker's partitions are assigned to others."""
    fetch_max_wait_ms: Positive = 100
    """Milliseconds that a broker may delay a fetch response while it has no records; Tansu always does."""
    commit_interval_s: Seconds = 1.0
    """Seconds between commits of offsets."""
    timer_interval_s: Seconds = 1.0
    """Seconds between two rounds of timers, which end expired sessions up to the group's watermark."""
    drain_s: Seconds = 5.0
    """Seconds that a stop or a rebalance waits for batches in flight."""
    max_batch_records: Positive = 2_000
    """Most records of one partition in a fetched batch."""
    max_record_bytes: Positive = 1_048_576
    """Longest record value, bytes; longer ones are rejected without being parsed."""
    max_reject_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of rejected records in the last minute, of at least 100, above which the worker is not ready."""


class DetectionSettings(SettingsGroup):
    """The catalogue of detections."""

    broken_plugins: Literal["fail", "skip"] = "fail"
    """If a plug-in cannot be imported: refuse to start, or log a warning and continue without it."""


class InputSettings(SettingsGroup):
    """Format of the records on the input topic; see docs/input.md."""

    mapping: str = "auto"
    """How records that do not have the native schema are read: `auto` (recognised by each record), `none`, the name of
    a built-in mapping, or the path of your own (`./acme.yaml`)."""
    tenant_id: str = ""
    """Tenant of records whose source does not name one; unset: such records are rejected."""
    end_words: tuple[str, ...] = ()
    """Words in a CloudEvents `type` that mean the end of a session, in addition to the built-in ones."""
    unavailable_placeholder: str = "__debezium_unavailable_value"
    """Debezium's `unavailable.value.placeholder`: a property with this value is unknown."""


class PrivacySettings(SettingsGroup):
    """Pseudonyms instead of user ids and addresses: in ClickHouse, findings, state and logs."""

    key: SecretStr | None = None
    """Secret key of pseudonyms, at least 32 characters (`openssl rand -hex 32`); another key gives other pseudonyms."""
    users: bool = False
    """Replace user ids by pseudonyms."""
    addresses: Addresses = "keep"
    """`address` replaces addresses and keeps their /24 or /64; `network` replaces these as well."""
    meta_data: Literal["keep", "drop"] = "keep"
    """`drop` removes `meta_data`, which may contain anything."""

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if (self.users or self.addresses != "keep") and len(self._secret()) < LEAST_KEY:
            raise ValueError(f"pseudonyms require a privacy.key of {LEAST_KEY} characters or more")
        return self

    def _secret(self) -> str:
        return self.key.get_secret_value() if self.key else ""

    def pseudonyms(self) -> Pseudonyms | None:
        """Return the pseudonyms; None when nothing is replaced."""
        if not self.users and self.addresses == "keep" and self.meta_data == "keep":
            return None
        meta_data = self.meta_data == "keep"
        return Pseudonyms(self._secret(), users=self.users, addresses=self.addresses, meta_data=meta_data)


class LogSettings(SettingsGroup):
    """Logging, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable text on a terminal, JSON elsewhere."""


class CorrelationSettings(SettingsGroup):
    """Comparison across users."""

    across_tenants: bool = False
    """Session uids are unique over all tenants: one uid in two tenants is a finding of `operator_tenant`."""
    operator_tenant: str = ""
    """Tenant of findings that concern several tenants; its readers see users of all tenants."""

    @model_validator(mode="after")
    def _has_a_tenant(self) -> Self:
        if self.across_tenants and not self.operator_tenant:
            raise ValueError(
                "correlation.across_tenants requires correlation.operator_tenant, the tenant of such findings"
            )
        return self

    def operator(self) -> str:
        """Return the tenant of findings that concern several tenants; empty: tenants are not compared."""
        return self.operator_tenant if self.across_tenants else ""


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTING,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    stream: StreamSettings = StreamSettings()
    delivery: DeliverySettings = DeliverySettings()
    state: StateSettings = StateSettings()
    correlation: CorrelationSettings = CorrelationSettings()
    incident: IncidentSettings = IncidentSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    retention: RetentionSettings = RetentionSettings()
    detections: DetectionSettings = DetectionSettings()
    geo: GeoSettings = GeoSettings()
    web: WebSettings = WebSettings()
    input: InputSettings = InputSettings()
    privacy: PrivacySettings = PrivacySettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    data_dir: Path = Path("data")
    """Directory of all files kept on this machine: the embedded stores, the state on disk."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the environment precedence over the constructor's arguments, which come from the file."""
        del env_settings, dotenv_settings, file_secret_settings
        return _KnownEnvironment(settings_cls), init_settings

    def store_dsn(self) -> str:
        """Return where rows go.

        Raises:
            SettingsError: it is not set.
        """
        if self.clickhouse.dsn is None:
            raise SettingsError(
                "clickhouse.dsn is not set: give clickhouse://user:password@host:8123/database, "
                "or chdb:///directory for an embedded store (`worker --embedded` makes one below data_dir)"
            )
        return self.clickhouse.dsn.get_secret_value()

    def embedded_directory(self) -> Path | None:
        """Return the directory of the embedded store that `clickhouse.dsn` names, None for a server.

        Raises:
            SettingsError: it is not set, or names no directory.
        """
        dsn = self.store_dsn()
        if not dsn.startswith("chdb:"):
            return None
        path = dsn.removeprefix("chdb://")
        if not path.startswith("/") or "?" in path:
            raise SettingsError(f"clickhouse.dsn {dsn!r} does not name a directory; use chdb:///directory")
        return Path(path)

    def with_embedded_store(self, name: str) -> Settings:
        """Return settings with an embedded store in a directory of `data_dir`.

        Raises:
            SettingsError: there is a `clickhouse.dsn`.
        """
        if self.clickhouse.dsn is not None:
            raise SettingsError("clickhouse.dsn is set: unset it to use an embedded store, or leave out --embedded")
        dsn = SecretStr(f"chdb://{(self.data_dir / name / 'store').resolve()}")
        return self.model_copy(update={"clickhouse": self.clickhouse.model_copy(update={"dsn": dsn})})

    def store_options(self) -> dict[str, Any]:
        """Return the options of a connection to `store_dsn`."""
        return self.clickhouse.options()

    def manages_access(self) -> bool:
        """Return whether migrations about users are to be applied; the embedded store has no users."""
        return self.embedded_directory() is None and self.clickhouse.manage_access

    def effective(self) -> dict[str, str]:
        """Return every setting in force as text, by its dotted name; secrets are masked."""
        return {setting.path: _shown(_value(self, setting.path)) for setting in settings()}


class Setting(NamedTuple):
    """One setting: its dotted name, environment variable, type, default and description, all as text."""

    path: str
    variable: str
    type: str
    default: str
    description: str


def settings() -> list[Setting]:
    """Return every setting, in the order of the model."""
    return [_described(path, field) for path, field in _leaves(Settings, "")]


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _described(path: str, field: FieldInfo) -> Setting:
    default = "" if field.default is None else _shown(field.default)
    return Setting(path, _variable(path), type_name(field.annotation), default, field.description or "")


def _variable(path: str) -> str:
    return PREFIX + path.replace(".", NESTING).upper()


def type_name(annotation: Any) -> str:
    """Return the name of a type as the tables of settings and policies show it."""
    if get_origin(annotation) is Annotated or (type(None) in get_args(annotation)):
        return type_name(get_args(annotation)[0])
    if get_origin(annotation) in (dict, tuple):
        kind = "table" if get_origin(annotation) is dict else "list"
        return f"{kind} of secrets" if "SecretStr" in str(get_args(annotation)[-1]) else kind
    name = getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)
    name = name.replace("typing.Literal", "").replace("pathlib.", "").replace("pydantic.types.", "")
    if name.startswith("["):
        return " or ".join(part.strip(" '\"") for part in name.strip("[]").split(","))
    return {"str": "text", "SecretStr": "secret", "bool": "true/false", "int": "number", "float": "number",
            "Path": "path"}.get(name, name)  # fmt: skip


def _value(model: BaseModel, path: str) -> Any:
    value: Any = model
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _shown(value: Any) -> str:
    from worker.observe.logs import MASK, masked  # noqa: PLC0415  structlog is slow to import and seldom needed here

    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked(text) if "://" in text else MASK if text else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(map(str, value))
    if isinstance(value, tuple):
        return ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    return "" if value is None else str(value)


class _KnownEnvironment(EnvSettingsSource):
    """The variables of settings; any other variable with the prefix is an error, as an unknown key of the file is."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        known = {setting.variable for setting in settings()}
        tables = tuple(f"{each.variable}{NESTING}" for each in settings() if each.type.startswith("table"))
        mine = {name.upper() for name in self.env_vars if name.upper().startswith(PREFIX)} - {CONFIG_VARIABLE}
        known |= {name for name in mine if name.startswith(tables)}
        if mine - known:
            raise SettingsError("; ".join(f"{name} is no setting{_hint(name, known)}" for name in sorted(mine - known)))
        self.env_vars = {name: value for name, value in self.env_vars.items() if name.upper() in known}


def _hint(name: str, known: set[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def load(config: Path | None = None) -> Settings:
    """Return the settings in force.

    Args:
        config: TOML file; None: see the module.

    Raises:
        SettingsError: the file cannot be read, has unknown keys, or a value is not valid.
    """
    given = _read(config or _default_file())
    known = {setting.path for setting in settings()}
    unknown = sorted(path for path in _paths(given, "") if path not in known)
    if unknown:
        file = config or _default_file()
        raise SettingsError("; ".join(f"{file}: {path} is no setting{_hint(path, known)}" for path in unknown))
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(explained(error)) from None
    except UnparsedError:
        raise SettingsError("; ".join(_unparsed()) or "the value of a variable is no JSON") from None


def _unparsed() -> Iterator[str]:
    """Yield what is wrong with the variables that have to be JSON and are not."""
    structured = tuple(each.variable for each in settings() if each.type.startswith(("table", "list")))
    for name, value in os.environ.items():
        if name.upper().startswith(structured):
            try:
                orjson.loads(value)
            except ValueError:
                yield f"{name}: its value has to be JSON"


def explained(error: ValidationError) -> str:
    """Return the errors without the values, which may be secrets."""
    wrong = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'settings'}: {_said(each)}" for each in wrong)


def _said(error: ErrorDetails) -> str:
    if error["type"] == "union_tag_not_found":
        return f"{error['ctx']['discriminator']} is required"
    if error["type"] == "union_tag_invalid":
        return f"{error['ctx']['discriminator']} has to be one of {error['ctx']['expected_tags']}"
    return validation_words(error["msg"])


def _default_file() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def _paths(given: Mapping[str, Any], prefix: str) -> Iterator[str]:
    groups = {name for name, field in Settings.model_fields.items() if _is_group(field)}
    for name, value in given.items():
        if not prefix and name in groups and isinstance(value, Mapping):
            yield from _paths(value, f"{name}.")
        else:
            yield prefix + name


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
