"""The addresses at which students reach this computer, the likeliest first, and the join address as a QR code."""

from __future__ import annotations

import io
import ipaddress
import socket

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


class NetworkAddress(msgspec.Struct, frozen=True, order=True):
    """An IPv4 address of this computer; of two, students more likely reach the smaller one.

    Attributes:
        rank: from 0; at least 100 where students are hardly reached through the adapter.
        ip: in dotted form.
        adapter: the adapter's name.
        prefix: the length of the network prefix in bits.
    """

    rank: int
    ip: str
    adapter: str = ""
    prefix: int = 32


def lan_addresses() -> list[NetworkAddress]:
    """This computer's addresses, the likeliest to be reached by students first; none where it is in no network."""
    default = _default_source()
    found = []
    for adapter in ifaddr.get_adapters():
        name = f"{adapter.name} {adapter.nice_name}"
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                found.append(NetworkAddress(rank(name, ip.ip, default), ip.ip, adapter.nice_name, ip.network_prefix))
    return sorted(address for address in found if not _useless(address.ip))


def rank(adapter: str, ip: str, default: str = "") -> int:
    """How unlikely it is that students reach an address, by its kind, its adapter and the default route.

    Args:
        adapter: the names of the adapter.
        ip: the address.
        default: the source address of the default route; "" where there is none.
    """
    address = ipaddress.ip_address(ip)
    kind = 20 if address.is_link_local else 0 if address.is_private else 10
    virtual = any(word in adapter.lower() for word in _VIRTUAL)
    return kind + (100 if virtual else 0) + (0 if ip == default else 1)


def _useless(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified


def _default_source() -> str:
    """The source address of the default route; "" where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # An address for documentation, which nobody has: with UDP, `connect` only chooses the route.
            probe.connect(("203.0.113.1", 9))
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
