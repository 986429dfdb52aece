"""What a tenant's policy says about the delivery of its incidents: destinations, silences, quiet hours, revocation."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

SeverityName = Literal["informational", "low", "medium", "high", "critical"]
Tenants = tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Reference = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone of the IANA database, such as Europe/Berlin") from None
    return name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Silence(_Part):
    """Incidents that are stored and not delivered for a while. All conditions given must hold."""

    until: AwareDatetime = Field(description="When the silence ends; there is none without an end.")
    reason: Reason = Field(description="Why, and by whom; it is kept with each delivery left out.")
    tenants: Tenants = Field((), description="Tenants, `*` for any part of a name; empty: all. Not in policies.")
    users: tuple[str, ...] = Field((), description="Users; empty: all.")
    detections: tuple[str, ...] = Field((), description="Only incidents of nothing but these detections.")
    networks: tuple[str, ...] = Field((), description="Networks (CIDR, or `AS` and a number); empty: any.")
    max_severity: SeverityName = Field("high", description="More severe incidents are delivered all the same.")

    def is_active(self, now: datetime) -> bool:
        """Return whether it has not ended."""
        return now < self.until


class QuietHours(_Part):
    """Times of the week in which messages to people wait until they end."""

    start: time = Field(description="Local time at which they begin.")
    end: time = Field(description="Local time at which they end; before `start` it is the next day's.")
    days: tuple[Day, ...] = Field(DAYS, description="Days on which they begin.")
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone of the IANA database.")
    max_severity: SeverityName = Field("high", description="More severe incidents do not wait.")
    reason: Reason = Field(description="Why; it is kept with each delivery that waits.")


class TenantDestination(_Part):
    """A destination of a tenant's own. Secrets are named here and stand in the settings (`alerts.tenant_secrets`)."""

    kind: Literal["webhook", "slack", "teams", "pagerduty"] = Field(description="What kind it is.")
    url: Reference | None = Field(None, description="Name of the secret that holds the address.")
    secrets: tuple[Reference, ...] = Field((), description="Names of the secrets that sign (webhook).")
    routing_key: Reference | None = Field(None, description="Name of the secret that is the key (pagerduty).")
    min_severity: SeverityName = Field("medium", description="Severity from which incidents are delivered.")


class AlertingPolicy(_Part):
    """How a tenant's incidents are delivered."""

    destinations: dict[Reference, TenantDestination] = Field(
        default_factory=dict, description="The tenant's own destinations, beside the operator's.", max_length=8
    )
    only_own: bool = Field(default=False, description="Deliver to the tenant's own destinations alone.")
    silences: tuple[Silence, ...] = Field((), description="What is not delivered.", max_length=100)
    quiet_hours: tuple[QuietHours, ...] = Field((), description="When messages wait.", max_length=14)
    revoke: bool = Field(
        default=False,
        description="Ask for the revocation of sessions by use-after-revocation, owner-change and critical "
        "session-hijack, through `shared-signals` and `revoke` destinations.",
    )
