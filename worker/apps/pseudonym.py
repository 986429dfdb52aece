"""`pseudonym`: the pseudonyms of a user and of an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.apps.errors import UsageError
from worker.enrich.networks import network_of

if TYPE_CHECKING:
    from worker.settings import Settings


def pseudonyms_of(settings: Settings, tenant: str, user: str, ip: str) -> dict[str, str]:
    """Return the pseudonyms of a tenant's user (`user`), and of an address (`ip`, `prefix`), unless empty.

    Raises:
        UsageError: pseudonyms are off, or `ip` is not an address.
    """
    pseudonyms = settings.privacy.pseudonyms()
    if pseudonyms is None:
        raise UsageError("there are no pseudonyms: privacy.users and privacy.addresses are off")
    found = {"user": pseudonyms.user(tenant, user)} if user else {}
    if ip:
        try:
            address, prefix = network_of(ip)
        except ValueError as error:
            raise UsageError(f"--ip {error}") from None
        found |= {"ip": pseudonyms.address(address), "prefix": pseudonyms.prefix(prefix)}
    return found
