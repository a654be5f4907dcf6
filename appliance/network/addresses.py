"""Addresses at which students reach this machine, best first, and the join address as a QR code."""

from __future__ import annotations

import io
import ipaddress
import socket

import ifaddr
import msgspec
import segno

# Adapters of virtual machines, containers and tunnels: no student is behind them.
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


class Address(msgspec.Struct, frozen=True, order=True):
    """An IPv4 address of this computer; the smaller one is the more likely to be reached by students.

    Attributes:
        rank: 0 and more; 100 and more where students are hardly behind the adapter.
        ip: in dotted form.
        adapter: the adapter's name.
        prefix: how many bits of it are the network's.
    """

    rank: int
    ip: str
    adapter: str = ""
    prefix: int = 32


def lan_addresses() -> list[Address]:
    """This computer's addresses, those that students most likely reach first; none where it is in no network."""
    default = _default_source()
    found = []
    for adapter in ifaddr.get_adapters():
        name = f"{adapter.name} {adapter.nice_name}"
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                found.append(Address(rank(name, ip.ip, default), ip.ip, adapter.nice_name, ip.network_prefix))
    return sorted(address for address in found if not _useless(address.ip))


def rank(adapter: str, ip: str, default: str = "") -> int:
    """How unlikely it is that students reach an address: its kind, its adapter, and whether other traffic goes there.

    Args:
        adapter: the names of the adapter.
        ip: the address.
        default: the address from which this computer speaks to others; "" where it is in no larger network.
    """
    address = ipaddress.ip_address(ip)
    kind = 20 if address.is_link_local else 0 if address.is_private else 10
    virtual = any(word in adapter.lower() for word in _VIRTUAL)
    return kind + (100 if virtual else 0) + (0 if ip == default else 1)


def _useless(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified


def _default_source() -> str:
    """The address from which this computer would speak to the world. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # An address that is nobody's: for UDP, connecting only looks up the way there.
            asked.connect(("203.0.113.1", 9))
            return str(asked.getsockname()[0])
        except OSError:
            return ""


def join_url(address: str, port: int) -> str:
    """The join page at an address or a name; a whole URL, as the configuration may name, keeps its scheme and port."""
    return f"{address.rstrip('/')}/join" if "://" in address else f"{base_url(address, port)}/join"


def base_url(address: str, port: int) -> str:
    """``http://ADDRESS:PORT``, without the port where it is 80, and with brackets round an IPv6 address."""
    name = f"[{address}]" if ":" in address else address
    return f"http://{name}" if port == 80 else f"http://{name}:{port}"


def qr_svg(text: str) -> bytes:
    """A QR code as SVG, dark on white with its quiet zone, without inline style so that a strict policy shows it."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", scale=8, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None, omitsize=True
    )
    return out.getvalue()
