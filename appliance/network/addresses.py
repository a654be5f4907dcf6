"""The addresses at which students reach this computer, the likeliest first, and the join address as a QR code."""

from __future__ import annotations

import io
import ipaddress
import socket
from collections.abc import Iterable

import ifaddr
import msgspec
import segno

# Parts of the names of adapters of virtual machines, containers and tunnels: no student is reached through them.
_VIRTUAL = (
    "docker",
    "br-",
    "veth",
    "virbr",
    "vbox",
    "vmnet",
    "vethernet",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "zt",
    "utun",
    "hyper-v",
    "virtualbox",
    "vmware",
    "loopback",
    "bluetooth",
    "wsl",
    "nordlynx",
    "ppp",
)


_LINK_LOCAL = 20
"""The rank of an address that a computer gave itself, as no router did."""


class NetworkAddress(msgspec.Struct, frozen=True, order=True):
    """An address of this computer; of two, students more likely reach the smaller one.

    Attributes:
        rank: from 0; at least 100 where students are hardly reached through the adapter.
        ip: in its usual form, without brackets.
        adapter: the adapter's name.
        prefix: the length of the network prefix in bits.
    """

    rank: int
    ip: str
    adapter: str = ""
    prefix: int = 32


def lan_addresses() -> list[NetworkAddress]:
    """This computer's addresses, the likeliest to be reached by students first; none where it is in no network.

    They are IPv4 addresses, as people type them; IPv6 ones are added in a network that has no others.
    """
    defaults = _default_source(socket.AF_INET, "203.0.113.1"), _default_source(socket.AF_INET6, "2001:db8::1")
    found: list[NetworkAddress] = []
    for adapter in ifaddr.get_adapters():
        name = f"{adapter.name} {adapter.nice_name}"
        for ip in adapter.ips:
            text, default = (ip.ip, defaults[0]) if isinstance(ip.ip, str) else (ip.ip[0], defaults[1])
            if not _useless(text):
                found.append(NetworkAddress(rank(name, text, default), text, adapter.nice_name, ip.network_prefix))
    return usable(found)


def usable(found: Iterable[NetworkAddress]) -> list[NetworkAddress]:
    """The addresses to show: those of IPv4, and those of IPv6 where no network of IPv4 is likely to reach students."""
    found = sorted(found)
    old = [address for address in found if ":" not in address.ip]
    return old if any(address.rank < _LINK_LOCAL for address in old) else found


def rank(adapter: str, ip: str, default: str = "") -> int:
    """How unlikely it is that students reach an address, by its kind, its adapter and the default route.

    Args:
        adapter: the names of the adapter.
        ip: the address.
        default: the source address of the default route; "" where there is none.
    """
    address = ipaddress.ip_address(ip)
    kind = _LINK_LOCAL if address.is_link_local else 0 if address.is_private else 10
    virtual = any(word in adapter.lower() for word in _VIRTUAL)
    return kind + (100 if virtual else 0) + (0 if ip == default else 1)


def _useless(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    # A link-local address of IPv6 needs the name of the student's own adapter, which no link can hold.
    return address.is_loopback or address.is_unspecified or (address.version == 6 and address.is_link_local)


def _default_source(family: socket.AddressFamily, other: str) -> str:
    """The source address of the default route; "" where there is none. Nothing is sent.

    Args:
        family: of IPv4 or IPv6.
        other: an address for documentation (RFC 5737, RFC 3849), which nobody has.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # With UDP, `connect` only chooses the route.
            probe.connect((other, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def join_url(address: str, port: int) -> str:
    """The URL of the join page at an address or host name; a URL from the configuration keeps its scheme and port."""
    return f"{address.rstrip('/')}/join" if "://" in address else f"{base_url(address, port)}/join"


def base_url(address: str, port: int) -> str:
    """``http://ADDRESS:PORT``; without the port where it is 80, with brackets around an IPv6 address."""
    name = f"[{address}]" if ":" in address else address
    return f"http://{name}" if port == 80 else f"http://{name}:{port}"


def qr_svg(text: str) -> bytes:
    """A QR code as SVG, black on white with its quiet zone; without inline styles, which the pages' policy forbids."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", scale=8, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None, omitsize=True
    )
    return out.getvalue()
