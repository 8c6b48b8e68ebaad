# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.utils.addresses import parse_address, private_reason, unreachable_reason


def resolved(host: str) -> str | None:
    """Return the IPv4 address that the resolver reads from a host without asking a name server."""
    try:
        found = socket.getaddrinfo(host, 0, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


def parsed(host: str) -> str | None:
    address = parse_address(host)
    return None if address is None else str(address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0177.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.0.0.01", "127.0.0.1"),
        ("0x00000000000007f.1", "127.0.0.1"),
        ("010.0.0.1", "8.0.0.1"),
        ("0", "0.0.0.0"),  # noqa: S104
        ("1.2.65535", "1.2.255.255"),
        ("1.16777215", "1.255.255.255"),
        ("4294967295", "255.255.255.255"),
        # Numbers that are too large for their place.
        ("1.2.65536", None),
        ("1.16777216", None),
        ("4294967296", None),
        ("0x100000000", None),
        ("99999999999999999999", None),
        ("256.1.1.1", None),
        ("1.2.3.256", None),
        # No numbers.
        ("08", None),
        ("1.08.1.1", None),
        ("0x", None),
        ("0xg", None),
        ("0o177.1", None),
        ("1e1", None),
        ("+1", None),
        ("-1", None),
        ("1_0", None),
        ("\u0661", None),
        ("1..2", None),
        ("1.2.3.", None),
        ("1.2.3.4.5", None),
        ("", None),
        # What some C libraries ignore behind an address.
        ("127.0.0.1 ", None),
        ("127.0.0.1 x", None),
        ("127.0.0.1\t", None),
        ("127.0.0.1\n", None),
        (" 127.0.0.1", None),
        ("example.com", None),
        ("abc", None),
        ("dead.beef", None),
    ],
)
def test_an_ipv4_address_is_read_as_the_resolver_reads_it(host: str, address: str | None) -> None:
    assert parsed(host) == address
    assert resolved(host) == address


@given(st.from_regex(r"(0[xX]?)?[0-9a-fA-F]{0,12}(\.(0[xX]?)?[0-9a-fA-F]{0,12}){0,4}", fullmatch=True))
@example("1.2.65536")
def test_so_is_whatever_looks_like_one(host: str) -> None:
    assert parsed(host) == resolved(host)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.1."])
def test_a_short_form_is_private_all_the_same(host: str) -> None:
    assert private_reason(host) == "a loopback address"
    assert unreachable_reason(f"http://{host}/a.png") is not None


@pytest.mark.parametrize("host", ["127.0.0.1\x00", "\x00", "127.0.0.1\x00.example.com"])
def test_a_nul_breaks_nothing(host: str) -> None:
    assert parse_address(host) is None
