"""Certificates for listeners of the tests: an authority, a server, a server of another name, a client, a stranger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path


def certificates(directory: Path) -> None:
    """Write them as PEM.

    `ca.pem` signs `broker.pem` (for 127.0.0.1), `other.pem` (for another host) and `client.pem` with `client.key`; the
    servers' files hold their keys, too. `strange-ca.pem` signs `strange.pem`, with `strange.key`.
    """
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(directory / "ca.pem"))
    theirs.cert_pem.write_to_path(str(directory / "strange-ca.pem"))
    _both(ours.issue_cert("127.0.0.1", "localhost"), directory / "broker.pem")
    _both(ours.issue_cert("192.0.2.1", "elsewhere.example"), directory / "other.pem")
    for authority, name in ((ours, "client"), (theirs, "strange")):
        issued = authority.issue_cert(f"{name}.example", common_name=name)
        issued.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(directory / f"{name}.key"))


def _both(issued: trustme.LeafCert, path: Path) -> None:
    # Kafka reads keys as PKCS #8 only, which trustme does not write.
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(b"".join([plain, *(each.bytes() for each in issued.cert_chain_pems)]))
