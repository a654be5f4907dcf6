"""Announces the appliance in the local network by multicast DNS, under a host name of its own.

Browsers that support mDNS open ``http://classroom-k7pm.local:8000/join`` whatever the address is. Many school networks
do not carry mDNS from room to room, so the name is an alternative to the address and never the only way. Only questions
from networks that this computer is connected to are answered, so that nobody elsewhere can make it send.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.network.addresses import NetworkAddress
from appliance.network.network import Network, on_link

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    from appliance.network.host_name import Claim

log = logging.getLogger(__name__)

SERVICE = "_http._tcp.local."
# After this many names that other computers have, the next one is kept even if it is in use, until the network changes.
_NAMES = 5
_CLOSE_SECONDS = 1.5
_ANNOUNCE_SECONDS = 60.0


class Announcer:
    """Keeps one host name announced while the computer's addresses change."""

    def __init__(
        self, network: Network, counters: Counters, *, addresses: Sequence[NetworkAddress] | None = None
    ) -> None:
        """Args:
        network: gives the addresses and the name to announce, and gets the name that is announced.
        counters: where refusals, conflicts and failures are counted.
        addresses: announce these instead of the network's.
        """
        self._network = network
        self._counters = counters
        self._addresses = addresses
        self._port = 0
        self._zeroconf: AsyncZeroconf | None = None
        self._service: ServiceInfo | None = None
        self._again = asyncio.Event()
        self._lost = False
        self._names_left = _NAMES

    def again(self) -> None:
        """Announce again: the addresses changed, or the computer woke up."""
        self._names_left = _NAMES
        self._again.set()

    async def run(self, port: int) -> None:
        """Announce a port until cancelled. A failure is logged, and the next try is when the network changes."""
        self._port = port
        while True:
            self._again.clear()
            try:
                async with asyncio.timeout(_ANNOUNCE_SECONDS):
                    await self._announce()
            except Exception as error:
                # A network without multicast, another program that has port 5353 to itself, a driver that fails.
                self._counters.add("announce_failures")
                log.info("The name could not be announced in this network (%s).", place_of(error))
            await self._again.wait()
            await self.close()

    async def close(self) -> None:
        """Withdraw the name."""
        zeroconf, self._zeroconf = self._zeroconf, None
        service, self._service = self._service, None
        self._network.announced("")
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                if service is not None:
                    # It returns the task that sends the goodbye packets.
                    await (await zeroconf.async_unregister_service(service))
                await zeroconf.async_close()
        except Exception as error:
            log.info("The name could not be withdrawn (%s).", place_of(error))

    async def _announce(self) -> None:
        found = self._network.addresses if self._addresses is None else self._addresses
        # Only IPv4, like the join addresses, and only adapters through which students are reached.
        addresses = [address for address in found if address.rank < 100 and ":" not in address.ip]
        if not addresses:
            return
        # In a thread: its import takes so long that it would delay requests.
        module: Any = await asyncio.to_thread(importlib.import_module, "zeroconf.asyncio")
        # It warns of each address that went away, which is normal here.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        zeroconf: AsyncZeroconf = module.AsyncZeroconf(interfaces=[address.ip for address in addresses])
        self._zeroconf = zeroconf
        await zeroconf.zeroconf.async_wait_for_start()
        for reader in zeroconf.zeroconf.engine.readers:
            reader.transport.set_protocol(_OwnNetworksOnly(reader.transport.get_protocol(), addresses, self._counters))
        claim, name = await self._free_name(zeroconf, addresses)
        from zeroconf import ServiceInfo

        self._service = ServiceInfo(
            SERVICE,
            f"Classroom Observer {name.rpartition('-')[2]}.{SERVICE}",
            port=self._port,
            properties={"path": "/join"},
            server=f"{name}.local.",
            addresses=[socket.inet_aton(address.ip) for address in addresses],
        )
        # It returns the task that repeats the announcement.
        await (await zeroconf.async_register_service(self._service, allow_name_change=True))
        self._network.announced(f"{name}.local")
        log.info("Students also find the appliance as %s.local.", name)
        if self._names_left:
            # Two networks may be joined later, and computers with copies of one disk start at the same moment.
            claim.watch(self._lose)

    async def _free_name(self, zeroconf: AsyncZeroconf, addresses: Sequence[NetworkAddress]) -> tuple[Claim, str]:
        """The name that is ours, or another where a computer with other addresses has that."""
        from appliance.network.host_name import Claim

        own = [address.ip for address in addresses]
        name = self._network.wanted_name()
        if self._lost:
            # Not the same name again: the other computer may be giving it up at this moment too.
            name = self._another_name(name)
            self._lost = False
        while True:
            claim = Claim(zeroconf.zeroconf, f"{name}.local", own)
            if not self._names_left or not await claim.taken():
                return claim, name
            claim.release()
            name = self._another_name(name)

    def _another_name(self, name: str) -> str:
        self._names_left -= 1
        self._counters.add("announce_conflicts")
        log.info("Another computer in this network is called %s.local; a new name is chosen.", name)
        return self._network.another_name()

    def _lose(self) -> None:
        """Another computer announced the same name."""
        self._lost = True
        self._again.set()


class _OwnNetworksOnly(asyncio.DatagramProtocol):
    """Passes on datagrams that come from networks that this computer is connected to; counts and drops others."""

    def __init__(self, inner: Any, addresses: Sequence[NetworkAddress], counters: Counters) -> None:
        self._inner = inner
        self._addresses = addresses
        self._counters = counters

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if on_link(str(addr[0]), self._addresses):
            self._inner.datagram_received(data, addr)
        else:
            self._counters.add("announce_refused")

    def error_received(self, exc: Exception) -> None:
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
