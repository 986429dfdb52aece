"""`TenantPolicy`: what one tenant wants of its detections. One JSON document a tenant, on a compacted topic."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from schemas.alerting import AlertingPolicy

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


def _cidr(text: str) -> str:
    return str(ip_network(text, strict=False))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


Cidr = Annotated[str, AfterValidator(_cidr)]
Country = Annotated[str, StringConstraints(to_upper=True, pattern=r"^[A-Za-z]{2}$")]
Asn = Annotated[int, Field(ge=1, lt=1 << 32)]
Pattern = Annotated[str, StringConstraints(max_length=256), AfterValidator(_pattern)]
ALLOWED, DENIED = 1, 2
"""Flags of an address that is on a tenant's list of networks."""
SeverityName = Literal["informational", "low", "medium", "high", "critical"]


class DetectionPolicy(BaseModel):
    """How one detection runs for a tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    severity: SeverityName | None = Field(None, description="Replaces the severity of every finding.")
    shadow: bool = Field(default=False, description="Findings are stored, not alerted.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Overrides of its parameters.")


class TenantPolicy(BaseModel):
    """A tenant's policy; every part has a default, so `{}` is a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detections: dict[str, DetectionPolicy] = Field(default_factory=dict, description="By detection id.")
    shadow: bool = Field(default=False, description="All findings are stored, none alerted.")
    allowed_networks: tuple[Cidr, ...] = Field((), description="Trusted networks (CIDR): findings are suppressed.")
    allowed_asns: tuple[Asn, ...] = Field((), description="Trusted autonomous systems.")
    allowed_countries: tuple[Country, ...] = Field((), description="If any: all others are denied.")
    denied_networks: tuple[Cidr, ...] = Field((), description="Networks no session may come from.")
    denied_asns: tuple[Asn, ...] = Field((), description="Autonomous systems no session may come from.")
    denied_countries: tuple[Country, ...] = Field((), description="Countries no session may come from.")
    first_party_clients: tuple[Pattern, ...] = Field(
        (), description="Regular expressions for the user agents of the tenant's own clients."
    )
    sensitive_scopes: tuple[str, ...] = Field(
        ("admin", "write:all", "offline_access"), description="Scopes whose gain is of high severity."
    )
    mfa: Literal["never", "always", "scopes"] = Field("never", description="When sessions must show MFA.")
    mfa_scopes: tuple[str, ...] = Field((), description="Scopes that ask for MFA when `mfa` is `scopes`.")
    max_sessions: int = Field(10, ge=1, description="Unexpired sessions a user may have.")
    max_lifetime_minutes: float | None = Field(None, gt=0, description="Longest `max_age_minutes` allowed.")
    risk_threshold: float = Field(70.0, gt=0, le=100, description="Risk of a session at which it is a finding.")
    alert_budget: float | None = Field(
        None, gt=0, description="Alerts per 1,000 active users a day, at least one a partition; none: unlimited."
    )

    alerting: AlertingPolicy = Field(
        AlertingPolicy.model_validate({}), description="How incidents are delivered; see docs/alerting.md."
    )

    @cached_property
    def _allowed(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(map(ip_network, self.allowed_networks))

    @cached_property
    def _denied(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(map(ip_network, self.denied_networks))

    def allows(self, ip: str, asn: int) -> bool:
        """Tell whether an address is on the tenant's own lists of trusted networks."""
        return asn in self.allowed_asns or _in_any(ip, self._allowed)

    def denies(self, ip: str, asn: int) -> bool:
        """Tell whether an address is on the tenant's lists of denied networks."""
        return asn in self.denied_asns or _in_any(ip, self._denied)

    def denies_country(self, country: str) -> bool:
        """Tell whether a known country is denied."""
        if not country:
            return False
        outside = bool(self.allowed_countries) and country not in self.allowed_countries
        return outside or country in self.denied_countries


def _in_any(ip: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if not networks or not (":" in ip or "." in ip):
        # None, or a pseudonym, which lies in none.
        return False
    address = ip_address(ip)
    return any(address in network for network in networks)


DEFAULT_POLICY = TenantPolicy.model_validate({})
