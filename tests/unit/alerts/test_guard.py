"""Which addresses destinations may be connected to."""

from __future__ import annotations

import pytest

from worker.alerts.guard import AddressGuard, BlockedAddressError

NEVER = (
    "169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1", "0.0.0.0", "::", "224.0.0.1",
    "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254",
    "::ffff:0:169.254.169.254",
)  # fmt: skip
PRIVATE = (
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
    "::127.0.0.1", "::ffff:0:10.0.0.1", "2002:7f00:1::",
)  # fmt: skip
ODD = ("fec0::1", "64:ff9b:1::7f00:1", "4000::1", "5f00::1", "100.64.0.1")
PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


def is_allowed(address: str, *, private: bool = False, networks: tuple[str, ...] = ()) -> bool:
    try:
        AddressGuard(allow_private=private, networks=networks).check(address)
    except BlockedAddressError:
        return False
    return True


@pytest.mark.parametrize("address", NEVER)
def test_metadata_link_local_and_group_addresses_need_to_be_named(address: str) -> None:
    assert not is_allowed(address)
    assert not is_allowed(address, private=True)


def test_a_named_network_is_allowed_whatever_it_is() -> None:
    assert is_allowed("169.254.169.254", networks=("169.254.169.254/32",))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_permission_in_whatever_form(address: str) -> None:
    assert not is_allowed(address)
    assert is_allowed(address, private=True)


@pytest.mark.parametrize("address", ODD)
def test_addresses_that_are_neither_public_nor_private_are_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address)
