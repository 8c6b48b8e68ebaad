# SPDX-License-Identifier: Apache-2.0
"""Which hosts and IP addresses are public."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


#: IPv4 networks without public servers, by IANA's registry of special-purpose addresses. ``is_global`` differs
#: between versions of Python.
_SPECIAL_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by a provider's customers; Alibaba's metadata service is at 100.100.100.200
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host, a public address that is in no registry of special ones
            "169.254.0.0/16",  # link-local; the metadata services of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata service was at 192.0.0.192
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)


#: The part of IPv6 that is allocated for the public internet. Loopback, private, link-local, site-local and
#: multicast addresses are outside, and so are prefixes for a network's own translator.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


_SPECIAL_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


#: IPv6 networks whose last 32 bits are an IPv4 address: NAT64, IPv4-compatible.
_ENDS_IN_IPV4 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


def unreachable_reason(url: str) -> str | None:
    """Return why the vendor cannot fetch this media URL, or None if no reason is known."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError as error:
        return f"is not a URL ({error})"
    if parts.scheme.lower() not in ("http", "https"):
        return (
            "must be a public http(s) URL, which the vendor fetches itself, or the URI of an object storage, such "
            "as s3://conn@bucket/frame.png"
        )
    if not host:
        return "has no host; the vendor needs a public http(s) URL"
    kind = private_reason(host)
    return f"is {kind}, which the vendor cannot reach; upload it to a public URL" if kind else None


def private_reason(host: str) -> str | None:
    """Return what makes a URL's host private, judged by its spelling alone; None if nothing does."""
    host = host.rstrip(".").lower()
    address = parse_address(host)
    if address is not None:
        if is_public(address):
            return None
        kinds = (("loopback", address.is_loopback), ("link-local", address.is_link_local))
        return next((f"a {kind} address" for kind, applies in kinds if applies), "a private or reserved address")
    if host == "localhost" or host.endswith(".localhost"):
        return "a loopback name"
    if "." not in host or host.endswith((".local", ".internal", ".lan", ".home.arpa", ".intranet")):
        return "a name of a private network"
    return None


def is_public(address: IPAddress) -> bool:
    """Return whether an address from :func:`parse_address` is on the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)


def parse_address(host: str) -> IPAddress | None:
    """
    Return the IP address in a URL's host, also in the short and hexadecimal forms of inet_aton; None for a name.

    For an IPv6 address that wraps an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64), the IPv4 address is
    returned, since a connection leads there.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _legacy_ipv4(host)
    return address if isinstance(address, ipaddress.IPv4Address) else _ipv4_within(address) or address


def _ipv4_within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        server, client = address.teredo
        return client if is_public(server) else server
    # ::1 and :: are IPv6 addresses, not wrapped IPv4 ones.
    wrapped = any(address in network for network in _ENDS_IN_IPV4) and int(address) > 1
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if wrapped else None


def _legacy_ipv4(host: str) -> ipaddress.IPv4Address | None:
    # The C library reads these forms for every HTTP client, but some versions ignore what follows a space.
    if not re.fullmatch(r"[0-9a-fA-FxX.]+", host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
