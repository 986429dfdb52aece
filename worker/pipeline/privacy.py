"""Pseudonyms: keyed hashes that replace user ids and addresses.

Detections and look-ups use the real address of the current event; state, rows, messages and logs contain its pseudonym.
A name has the same pseudonym as long as the key is the same. Without the key, a pseudonym cannot be reversed by trying
all names; with a plain hash, all 2^32 IPv4 addresses can be tried in minutes.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from schemas.keys import partition_of, user_key
from schemas.policy import ALLOWED, DENIED, LISTED

if TYPE_CHECKING:
    from schemas.event import SessionEvent
    from schemas.policy import TenantPolicy
    from worker.enrich.model import Enrichment

Addresses = Literal["keep", "address", "network"]
USER, ADDRESS, PREFIX, SESSION = "p-", "ip-", "net-", "d-"
"""Prefixes of pseudonyms: of users, addresses, network prefixes, and sessions with a derived uid."""
DIGEST_BYTES = 16
"""Two of a billion names get the same pseudonym with a probability of 10^-21."""
_USER = re.compile(rf"{USER}[0-9a-f]{{{2 * DIGEST_BYTES}}}")


def is_user_pseudonym(user_id: str) -> bool:
    """Return whether a user id has the form of a pseudonym.

    >>> is_user_pseudonym("p-" + "0f" * 16), is_user_pseudonym("alice")
    (True, False)
    """
    return _USER.fullmatch(user_id) is not None


class Pseudonyms:
    """Computes pseudonyms (keyed BLAKE2b, RFC 7693).

    Args:
        key: the secret; with it, anyone can check whether a pseudonym belongs to a given user.
        users: user ids, and the uids derived from them, become pseudonyms.
        addresses: `keep`; `address`: addresses become pseudonyms, their /24 or /64 stays; `network`: both do.
        meta_data: keep `meta_data`, which may contain anything.
    """

    def __init__(self, key: str, *, users: bool, addresses: Addresses, meta_data: bool = True) -> None:
        # BLAKE2b takes keys of at most 64 bytes; a longer one is hashed first.
        self._key = blake2b(key.encode()).digest()
        self._users = users
        self._addresses = addresses
        self._meta_data = meta_data

    @property
    def are_of_users(self) -> bool:
        """Whether user ids are replaced."""
        return self._users

    def user(self, tenant_id: str, user_id: str) -> str:
        """Return the pseudonym of a user; the same id has different pseudonyms in different tenants.

        >>> Pseudonyms("k" * 32, users=True, addresses="keep").user("acme", "alice")
        'p-5a73b4da2b3546ee949f0b62d709fdd0'
        """
        return self._hash(USER, f"{len(tenant_id)}:{tenant_id}{user_id}") if self._users else user_id

    def names(self, tenant_id: str, user_id: str) -> list[str]:
        """Return the names under which a user may be stored, given the user's id or pseudonym; the current one first.

        The other one was used before pseudonyms were enabled.
        """
        if is_user_pseudonym(user_id):
            return [user_id]
        return list(dict.fromkeys((self.user(tenant_id, user_id), user_id)))

    def address(self, ip: str) -> str:
        """Return the stored form of an address in canonical form; it is the same for all tenants."""
        return ip if self._addresses == "keep" else self._hash(ADDRESS, ip)

    def prefix(self, prefix: str) -> str:
        """Return the stored form of the prefix of an address; unknown stays unknown."""
        return self._hash(PREFIX, prefix) if prefix and self._addresses == "network" else prefix

    def renamed(self, event: SessionEvent) -> SessionEvent:
        """Return the event with its user's pseudonym, and still with the real address."""
        if not self._users:
            return event
        # A derived uid is a hash of the user's id, among others, so it could be reversed by trying all ids.
        uid = self._hash(SESSION, event.session_uid) if event.uid_derived else event.session_uid
        return replace(event, user_id=self.user(event.tenant_id, event.user_id), session_uid=uid)

    def hidden(self, event: SessionEvent, known: Enrichment, policy: TenantPolicy) -> tuple[SessionEvent, Enrichment]:
        """Return event and network without the real address, after all look-ups that need it."""
        if not self._meta_data:
            event = replace(event, meta_data=None)
        if self._addresses == "keep":
            return event, known
        network = known.network
        listed = ALLOWED * policy.allows(network.ip, 0) | DENIED * policy.denies(network.ip, 0)
        listed |= LISTED * policy.lists(network.ip)
        ip = self.address(network.ip)
        network = replace(network, ip=ip, prefix=self.prefix(network.prefix))
        return replace(event, ip=ip, listed=listed), known._replace(network=network)

    def _hash(self, kind: str, name: str) -> str:
        return kind + blake2b(name.encode(), digest_size=DIGEST_BYTES, key=self._key, person=kind.encode()).hexdigest()


def home_partitions(tenant_id: str, user_id: str, partitions: int) -> list[int]:
    """Return the partitions where the state of a user may be: one, or all of them for a pseudonym."""
    if is_user_pseudonym(user_id):
        return list(range(partitions))
    return [partition_of(user_key(tenant_id, user_id), partitions)]
