"""How strong an authentication was, by the methods in `amr`.

Method names are those of RFC 8176 (https://www.rfc-editor.org/rfc/rfc8176#section-2) and the widely used `fido`,
`passkey` and `sms` variants; their order follows NIST SP 800-63B: phishing-resistant cryptography over other
second factors over out-of-band by telephone over a shared secret. Others are ignored.
"""

from __future__ import annotations

from functools import lru_cache

UNKNOWN = -1
SECOND_FACTOR = 2
"""Strength from which a method is a second factor."""
_LEVELS = {
    4: ("hwk", "sc", "pop", "fido", "passkey"),
    3: ("otp", "swk", "mca", "mfa", "fpt", "face", "iris", "retina", "vbm"),
    2: ("sms", "tel"),
    1: ("pwd", "pin", "kba", "wia", "user", "rba", "geo"),
}
STRENGTH = {method: level for level, methods in _LEVELS.items() for method in methods}


@lru_cache(maxsize=1 << 10)
def strength(amr: tuple[str, ...] | None) -> int:
    """Return the strength of the strongest method: 0 for none, `UNKNOWN` when `amr` was omitted.

    >>> strength(("otp", "pwd")), strength(()), strength(None)
    (3, 0, -1)
    """
    if amr is None:
        return UNKNOWN
    return max((STRENGTH.get(method, 0) for method in amr), default=0)
