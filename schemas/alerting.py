"""The part of a tenant's policy about the delivery of incidents: destinations, silences, quiet hours, revocation."""

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
    """Incidents that match are stored and not delivered until the silence ends. All given conditions must hold."""

    until: AwareDatetime = Field(description="When the silence ends. Required: no silence is without an end.")
    reason: Reason = Field(description="Why, and by whom. It is stored with each delivery that is left out.")
    tenants: Tenants = Field(
        (), description="Tenants, with `*` for any part of a name; empty: all. Not allowed in policies."
    )
    users: tuple[str, ...] = Field((), description="Users; empty: all.")
    detections: tuple[str, ...] = Field((), description="Only incidents whose detections are all listed here.")
    networks: tuple[str, ...] = Field((), description="Networks (CIDR, or `AS` and a number); empty: any.")
    max_severity: SeverityName = Field("high", description="More severe incidents are delivered anyway.")

    def is_active(self, now: datetime) -> bool:
        """Return whether the silence has not ended."""
        return now < self.until


class QuietHours(_Part):
    """Hours of the week in which messages to people are held back. They are sent when the hours end."""

    start: time = Field(description="Local time at which the quiet hours begin.")
    end: time = Field(description="Local time at which they end; if it is before `start`, on the next day.")
    days: tuple[Day, ...] = Field(DAYS, description="Days on which they begin.")
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone of the IANA database.")
    max_severity: SeverityName = Field("high", description="More severe incidents are not held back.")
    reason: Reason = Field(description="Why. It is stored with each delivery that is held back.")


class TenantDestination(_Part):
    """A tenant's own destination. Secrets are referenced by name; the operator sets them in `alerts.tenant_secrets`."""

    kind: Literal["webhook", "slack", "teams", "pagerduty"] = Field(description="Kind of the destination.")
    url: Reference | None = Field(None, description="Name of the secret that holds the URL.")
    secrets: tuple[Reference, ...] = Field((), description="Names of the signing secrets (webhook).")
    routing_key: Reference | None = Field(None, description="Name of the secret that holds the key (pagerduty).")
    min_severity: SeverityName = Field("medium", description="Lowest severity that is delivered.")


class AlertingPolicy(_Part):
    """How a tenant's incidents are delivered."""

    destinations: dict[Reference, TenantDestination] = Field(
        default_factory=dict, description="The tenant's own destinations, besides the operator's.", max_length=8
    )
    only_own: bool = Field(default=False, description="Deliver to the tenant's own destinations only.")
    silences: tuple[Silence, ...] = Field((), description="Incidents that are not delivered.", max_length=100)
    quiet_hours: tuple[QuietHours, ...] = Field((), description="When messages are held back.", max_length=14)
    revoke: bool = Field(
        default=False,
        description="Request the revocation of sessions with findings of use-after-revocation, owner-change or "
        "critical session-hijack, through `shared-signals` and `revoke` destinations.",
    )
