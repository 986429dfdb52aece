"""Tenants' own destinations: from their policy, with secrets from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from schemas.text import validation_words
from worker.alerts.config import AnyDestination, Destination
from worker.alerts.routing import OWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from schemas.alerting import AlertingPolicy, TenantDestination
    from worker.alerts.config import AlertSettings

_destination: TypeAdapter[Any] = TypeAdapter(AnyDestination)


class MissingSecretError(ValueError):
    """A policy refers to a secret that its tenant does not have."""


def own_name(tenant_id: str, name: str) -> str:
    """Return the full name of a tenant's own destination; the operator's have no colon."""
    return f"{tenant_id}{OWN}{name}"


def own_destinations(
    tenant_id: str, policy: AlertingPolicy, settings: AlertSettings, refuse: Callable[[str, str], None]
) -> dict[str, Destination]:
    """Return a tenant's own destinations by their full names; those that cannot be used are refused with the reason.

    They are reached only over https and at public addresses, so that a tenant cannot address our network.
    """
    found: dict[str, Destination] = {}
    secrets = settings.tenant_secrets.get(tenant_id, {})
    for name, each in policy.destinations.items():
        full = own_name(tenant_id, name)
        try:
            found[full] = _resolved(each, secrets)
        except MissingSecretError as error:
            refuse(full, str(error))
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            refuse(full, f"{'.'.join(map(str, first['loc']))}: {validation_words(first['msg'])}")
    return found


def _resolved(destination: TenantDestination, secrets: dict[str, SecretStr]) -> Destination:
    given = {"url": destination.url, "routing_key": destination.routing_key}
    values = {field: _secret(name, secrets) for field, name in given.items() if name is not None}
    if destination.secrets:
        values["secrets"] = [_secret(name, secrets) for name in destination.secrets]
    made: Destination = _destination.validate_python(
        {"kind": destination.kind, "min_severity": destination.min_severity, **values}
    )
    return made


def _secret(name: str, secrets: dict[str, SecretStr]) -> Any:
    if name not in secrets:
        raise MissingSecretError(f"alerts.tenant_secrets has no {name!r} for this tenant")
    return secrets[name]
