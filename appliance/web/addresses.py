"""Addresses at which students reach this machine, best first, and the join address as a QR code."""

from __future__ import annotations

import io
import ipaddress

import ifaddr
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
)


def lan_addresses() -> list[str]:
    """This machine's IPv4 addresses, those that students most likely reach first; loopback where there is no other."""
    found: list[tuple[int, str]] = []
    for adapter in ifaddr.get_adapters():
        names = f"{adapter.name} {adapter.nice_name}".lower()
        for ip in adapter.ips:
            if not isinstance(ip.ip, str):
                continue
            address = ipaddress.ip_address(ip.ip)
            if address.is_loopback or address.is_unspecified:
                continue
            rank = 0 if address.is_private and not address.is_link_local else 2 if address.is_link_local else 1
            if any(word in names for word in _VIRTUAL):
                rank += 10
            found.append((rank, ip.ip))
    ordered = [address for _, address in sorted(found)]
    return ordered or ["127.0.0.1"]


def join_urls(host: str, port: int, preferred: str) -> list[str]:
    """The addresses of the join page, the one to show first.

    Args:
        host: what the server listens on.
        port: the port it listens on.
        preferred: the address or URL that the configuration names, or "".
    """
    if host in ("", "0.0.0.0", "::"):
        addresses = lan_addresses()
    else:
        addresses = [host]
    urls = [f"{base_url(address, port)}/join" for address in addresses]
    if preferred:
        shown = f"{preferred.rstrip('/')}/join" if "://" in preferred else f"{base_url(preferred, port)}/join"
        urls = [shown, *(url for url in urls if url != shown)]
    return urls


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
