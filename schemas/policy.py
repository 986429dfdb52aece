"""`TenantPolicy`: a tenant's policy for its detections. A compacted topic holds one JSON document for each tenant."""

from __future__ import annotations

import math
import re
from functools import cached_property
from typing import Annotated, Any, Literal

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from schemas.alerting import AlertingPolicy
from schemas.networks import NetworkSet, parse_network
from schemas.vocabulary import DEFAULT_VOCABULARY, MAX_WORD, Method, SessionClass, Vocabulary

MAX_POLICY_BYTES = 1 << 20
"""Maximum size of a policy document, in bytes; the same as Kafka's default for a record."""
MAX_NETWORKS = 50_000
MAX_PATTERN = 1_000
"""Maximum size of the RE2 program of one pattern, in instructions. A literal has one instruction a character."""
MAX_PATTERNS = 2_000
"""Maximum size of all RE2 programs of a policy, in instructions. A search takes at most instructions × characters."""
MAX_SEARCHED = 512
"""Number of characters at the start of a user agent that patterns are matched against."""
MAX_NUMBER = 1 << 53
"""Largest number in a detection's parameters: above it JSON parsers differ in how they read integers."""
_LONG_REPETITION = re.compile(r"\{(?:\d{4,}|\d*,\d{4,})")


def _cidr(text: str) -> str:
    return parse_network(text).text


def _compile(pattern: str) -> Any:
    """Compile a pattern with RE2, whose search time is linear in the length of the text.

    Patterns and texts are bytes, so that a text that is not valid Unicode can be searched, too.
    """
    options = re2.Options()
    options.max_mem = 1 << 18
    options.log_errors = False
    options.never_capture = True
    return re2.compile(pattern.encode(), options=options)


def _pattern(text: str) -> str:
    try:
        size = _compile(text).programsize
    except (re2.error, ValueError) as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else str(error)
        raise ValueError(f"not a regular expression in RE2's syntax: {reason}") from None
    # RE2 reads a repetition of more than 1,000 as literal text.
    if size > MAX_PATTERN or _LONG_REPETITION.search(text):
        raise ValueError("the regular expression is too large: {n} counts its expression n times")
    return text


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if sum(_compile(each).programsize for each in patterns) > MAX_PATTERNS:
        raise ValueError("the regular expressions together are too large")
    return patterns


def _bounded(value: Any, depth: int = 4) -> Any:
    """Return a JSON value of parameters unchanged.

    Raises:
        ValueError: a number, text or collection in it is larger than any parameter needs.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
            raise ValueError("a number is not finite, or too large")
    elif depth == 0 or len(value) > 1_000:
        raise ValueError("a parameter is too long or too deep")
    elif isinstance(value, dict):
        for key, each in value.items():
            _bounded(key, depth - 1)
            _bounded(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _bounded(each, depth - 1)
    return value


Cidr = Annotated[str, StringConstraints(max_length=64), AfterValidator(_cidr)]
Country = Annotated[str, StringConstraints(to_upper=True, pattern=r"^[A-Za-z]{2}$")]
Asn = Annotated[int, Field(ge=1, lt=1 << 32)]
Pattern = Annotated[str, StringConstraints(max_length=256), AfterValidator(_pattern)]
ALLOWED, DENIED, LISTED = 1, 2, 4
"""Flags of the tenant's lists of networks that an address is on."""
# Validation of a list stops at the first error: a document of 1 MB can contain many, and each costs an exception.
Patterns = Annotated[tuple[Pattern, ...], FailFast(), Field(max_length=64), AfterValidator(_patterns)]
Networks = Annotated[tuple[Cidr, ...], FailFast(), Field(max_length=MAX_NETWORKS)]
Asns = Annotated[tuple[Asn, ...], FailFast(), Field(max_length=10_000)]
Countries = Annotated[tuple[Country, ...], FailFast(), Field(max_length=300)]
Scopes = Annotated[tuple[Annotated[str, StringConstraints(max_length=256)], ...], FailFast(), Field(max_length=1_000)]
Parameters = Annotated[dict[str, Any], AfterValidator(_bounded)]
DetectionId = Annotated[str, StringConstraints(max_length=128)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORD)]
SeverityName = Literal["informational", "low", "medium", "high", "critical"]


class DetectionPolicy(BaseModel):
    """How one detection runs for a tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Whether the detection runs.")
    severity: SeverityName | None = Field(None, description="Replaces the severity of every finding.")
    shadow: bool = Field(default=False, description="Findings are stored without an alert.")
    parameters: Parameters = Field(default_factory=dict, description="Overrides of the detection's parameters.")


class TenantPolicy(BaseModel):
    """A tenant's policy. Every property has a default, so `{}` is a policy. Every property is bounded in size."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    detections: dict[DetectionId, DetectionPolicy] = Field(
        default_factory=dict, max_length=1_000, description="By detection id."
    )
    shadow: bool = Field(default=False, description="All findings are stored without an alert.")
    allowed_networks: Networks = Field((), description="Trusted networks (CIDR): findings are suppressed.")
    allowed_asns: Asns = Field((), description="Trusted autonomous systems.")
    allowed_countries: Countries = Field((), description="If not empty, all other countries are denied.")
    denied_networks: Networks = Field((), description="Networks that no session may come from.")
    denied_asns: Asns = Field((), description="Autonomous systems that no session may come from.")
    threat_networks: Networks = Field((), description="The tenant's own threat list (CIDR).")
    denied_countries: Countries = Field((), description="Countries that no session may come from.")
    first_party_clients: Patterns = Field(
        (), description="Regular expressions (RE2) for the user agents of the tenant's own clients."
    )
    sensitive_scopes: Scopes = Field(
        ("admin", "write:all"), description="Scopes for which `scope-escalation` has high severity."
    )
    mfa: Literal["never", "always", "scopes"] = Field("never", description="When sessions must show MFA.")
    mfa_scopes: Scopes = Field((), description="Scopes that require MFA when `mfa` is `scopes`.")
    methods: dict[Word, Method] = Field(
        default_factory=dict,
        max_length=1_000,
        description="Meanings of words of `amr`, in addition to the built-in ones or instead of them.",
    )
    session_types: dict[Word, SessionClass] = Field(
        default_factory=dict,
        max_length=1_000,
        description="Classes of session types, in addition to the built-in ones or instead of them.",
    )
    expiry: Literal["sliding", "absolute", "none"] = Field(
        "sliding",
        description="What `max_age_minutes` counts from: the last use (`sliding`) or the creation (`absolute`); with "
        "`none` it is ignored.",
    )
    max_sessions: int = Field(
        10, ge=1, le=1_000_000, description="Maximum number of unexpired sessions that a user may have."
    )
    max_lifetime_minutes: float | None = Field(
        None, gt=0, le=MAX_NUMBER, description="Longest `max_age_minutes` allowed, in minutes."
    )
    risk_threshold: float = Field(
        70.0, gt=0, le=100, description="Risk of a session or user from which it is a finding."
    )
    alert_budget: float | None = Field(
        None,
        gt=0,
        le=MAX_NUMBER,
        description="Alerts a day per 1,000 active users, at least one in each partition. Further alerts of a user "
        "within `incident.quiet_minutes` cost nothing. The unused part of a day's budget may be used within a week, by "
        "findings of high severity within two weeks. None: unlimited.",
    )

    alerting: AlertingPolicy = Field(
        AlertingPolicy.model_validate({}), description="How incidents are delivered; see docs/alerting.md."
    )

    @cached_property
    def _allowed(self) -> tuple[frozenset[int], NetworkSet]:
        return frozenset(self.allowed_asns), NetworkSet(self.allowed_networks)

    @cached_property
    def _denied(self) -> tuple[frozenset[int], NetworkSet]:
        return frozenset(self.denied_asns), NetworkSet(self.denied_networks)

    @cached_property
    def _clients(self) -> tuple[Any, ...]:
        return tuple(map(_compile, self.first_party_clients))

    def prepare(self) -> None:
        """Build the indexes and compile the patterns now, so that the first event does not have to wait for it."""
        self.allows("", 0)
        self.denies("", 0)
        self.is_first_party("")
        self.lists("")
        self.vocabulary.strength(None)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Meanings of the tenant's words for authentication methods and session types."""
        if self.methods or self.session_types:
            return Vocabulary(self.methods, self.session_types)
        return DEFAULT_VOCABULARY

    def allows(self, ip: str, asn: int) -> bool:
        """Return whether an address is on the tenant's own lists of trusted networks."""
        asns, networks = self._allowed
        return asn in asns or ip in networks

    def denies(self, ip: str, asn: int) -> bool:
        """Return whether an address is on the tenant's lists of denied networks."""
        asns, networks = self._denied
        return asn in asns or ip in networks

    @cached_property
    def _threats(self) -> NetworkSet:
        return NetworkSet(self.threat_networks)

    def lists(self, ip: str) -> bool:
        """Return whether an address is on the tenant's own threat list."""
        return bool(self.threat_networks) and ip in self._threats

    def is_first_party(self, user_agent: str) -> bool:
        """Return whether a user agent is one of the tenant's own clients."""
        text = user_agent[:MAX_SEARCHED].encode(errors="replace")
        return any(each.search(text) is not None for each in self._clients)

    def denies_country(self, country: str) -> bool:
        """Return whether a known country is denied."""
        if not country:
            return False
        outside = bool(self.allowed_countries) and country not in self.allowed_countries
        return outside or country in self.denied_countries


DEFAULT_POLICY = TenantPolicy.model_validate({})
