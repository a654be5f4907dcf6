"""Announces the appliance in the local network by multicast DNS, under a host name of its own.

Students' browsers that know mDNS open ``http://classroom-k7pm.local:8000/join`` whatever the address is. Many school
networks do not carry mDNS from room to room, so the name is an alternative to the address and never the only way. Only
questions from the networks in which this computer itself is are answered, so that nobody elsewhere can make it send.
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
from appliance.network.addresses import Address
from appliance.network.network import Network, on_link

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    from appliance.network.host_name import Claim

log = logging.getLogger(__name__)

SERVICE = "_http._tcp.local."
# So many names are given up to other computers before one is kept in spite of them, until the network changes.
_NAMES = 5
_CLOSE_SECONDS = 1.5
_ANNOUNCE_SECONDS = 60.0


class Announcer:
    """Keeps one name announced while the computer's addresses change."""

    def __init__(self, network: Network, counters: Counters, *, addresses: Sequence[Address] | None = None) -> None:
        """Args:
        network: gives the addresses and the name to announce, and is told which one is.
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
        """Announce anew: the addresses changed, or the computer woke up."""
        self._names_left = _NAMES
        self._again.set()

    async def run(self, port: int) -> None:
        """Announce a port until cancelled. Whatever fails is logged, and tried again when the network changes."""
        self._port = port
        while True:
            self._again.clear()
            try:
                async with asyncio.timeout(_ANNOUNCE_SECONDS):
                    await self._announce()
            except Exception as error:
                # A network without multicast, a port 5353 that another program keeps for itself, a driver that fails.
                self._counters.add("announce_failures")
                log.info("The name could not be announced in this network (%s).", place_of(error))
            await self._again.wait()
            await self.close()

    async def close(self) -> None:
        """Take the name back."""
        zeroconf, self._zeroconf = self._zeroconf, None
        service, self._service = self._service, None
        self._network.announced("")
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                if service is not None:
                    # Its answer is the task that says good-bye.
                    await (await zeroconf.async_unregister_service(service))
                await zeroconf.async_close()
        except Exception as error:
            log.info("The name could not be taken back (%s).", place_of(error))

    async def _announce(self) -> None:
        found = self._network.addresses if self._addresses is None else self._addresses
        # IPv4 alone, as the join addresses are, and no adapter behind which no student is.
        addresses = [address for address in found if address.rank < 100 and ":" not in address.ip]
        if not addresses:
            return
        # Its import takes long enough to be felt by those who are being served.
        module: Any = await asyncio.to_thread(importlib.import_module, "zeroconf.asyncio")
        # It warns of each address that went away, which is what we are here for.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        zeroconf: AsyncZeroconf = module.AsyncZeroconf(interfaces=[address.ip for address in addresses])
        self._zeroconf = zeroconf
        await zeroconf.zeroconf.async_wait_for_start()
        for reader in zeroconf.zeroconf.engine.readers:
            reader.transport.set_protocol(_OnLink(reader.transport.get_protocol(), addresses, self._counters))
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
        # Its answer is the task that repeats the announcement.
        await (await zeroconf.async_register_service(self._service, allow_name_change=True))
        self._network.announced(f"{name}.local")
        log.info("Students also find the appliance as %s.local.", name)
        if self._names_left:
            # Two networks may be joined later, and computers with copies of one disk start at the same moment.
            claim.watch(self._lose)

    async def _free_name(self, zeroconf: AsyncZeroconf, addresses: Sequence[Address]) -> tuple[Claim, str]:
        """The name that is ours, or another where a computer with other addresses has that."""
        from appliance.network.host_name import Claim

        own = [address.ip for address in addresses]
        name = self._network.wanted_name()
        if self._lost:
            # Asking for it again is of no use: the other computer may be giving it up in this moment too.
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
        """Another computer announced our name."""
        self._lost = True
        self._again.set()


class _OnLink(asyncio.DatagramProtocol):
    """Lets through what comes from our own networks."""

    def __init__(self, inner: Any, addresses: Sequence[Address], counters: Counters) -> None:
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
