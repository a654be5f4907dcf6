"""Where a request comes from: this computer, another one, or a known reverse proxy in front of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from appliance.errors import SettingsError

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Proxies:
    """The reverse proxies that the configuration names."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        """Args:
        proxies: addresses and networks, such as ``10.0.0.0/24``.

        Raises:
            SettingsError: one of them is neither an address nor a network.
        """
        try:
            self._networks = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
        except ValueError as error:
            raise SettingsError(
                f"web.proxies: {error}; write addresses or networks such as 127.0.0.1 or 10.0.0.0/24."
            ) from None

    def original(self, request: web.Request) -> web.Request:
        """The request as it reached the outermost of our proxies; unchanged if it came through none.

        Each proxy adds the address of its client at the right end of X-Forwarded-For. So the first address from the
        right that is not a known proxy is the client; anybody may have written what is left of it.
        """
        if not self._networks or not self._is_proxy(request.remote or ""):
            return request
        chain = [part.strip() for line in request.headers.getall("X-Forwarded-For", ()) for part in line.split(",")]
        client = next((address for address in reversed(chain) if not self._is_proxy(address)), None)
        if client is None:
            return request
        proto = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return request.clone(remote=client, scheme=proto if proto in ("http", "https") else request.scheme)

    def is_surely_here(self, request: web.Request) -> bool:
        """Whether the request was made on this computer, and no known proxy can have forwarded it silently."""
        return is_here(request) and not self._is_proxy(request.remote or "")

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._networks)


def is_here(request: web.Request) -> bool:
    """Whether the request was made on this computer, and not forwarded by a proxy for another computer."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    remote = (request.remote or "").partition("%")[0]
    try:
        if ipaddress.ip_address(remote).is_loopback:
            return True
    except ValueError:
        return False
    # Only this computer itself connects from the same address that it connects to.
    own = local_address(request)
    return own is not None and is_same_address(remote, own)


def local_address(request: web.Request) -> str | None:
    """The address of this computer at which the request arrived; None once the connection has ended."""
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return None if own is None else own[0]


def is_same_address(name: str, address: str) -> bool:
    """Whether a host name is this IP address, written in any way; all loopback addresses count as the same."""
    try:
        found, own = ipaddress.ip_address(name), ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = own.ipv4_mapped if isinstance(own, ipaddress.IPv6Address) else None
    return found in (own, mapped) or (found.is_loopback and own.is_loopback)


def client_address(request: web.Request) -> str:
    """The address by which a client is counted. For IPv6 it is the network: one computer has 2^64 addresses."""
    remote = request.remote or ""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
