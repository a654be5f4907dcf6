"""The current network: at which addresses students reach this computer, and which of them the join panel shows.

Adapters come and go, a laptop moves from one network to another and sleeps in between. So the adapters are read every
few seconds, and listeners are called when something changed. The educator may choose another address than the one that
was found; the choice is kept in the data folder and holds as long as that address, or at least its adapter, is there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from appliance.counters import Counters
from appliance.datafolder.small_file import SmallFile
from appliance.errors import SettingsError
from appliance.listeners import Listeners
from appliance.network.addresses import NetworkAddress, join_url, lan_addresses

log = logging.getLogger(__name__)

FILE = "network.json"
WILDCARDS = ("", "0.0.0.0", "::")
# Letters and digits that are not mistaken for one another.
_NAME_CHARACTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_NAME_LENGTH = 4
# If the wall clock advanced so much more than the timer, the computer was asleep.
_SLEPT_SECONDS = 20.0


class SavedNetwork(msgspec.Struct):
    """``network.json`` in the data folder.

    Attributes:
        host: the address or host name that the educator chose; "" for the likeliest one.
        adapter: the adapter of that address; "" where it is a host name.
        name: the host name to announce, without ``.local``.
    """

    host: str = ""
    adapter: str = ""
    name: str = ""


class Network:
    """The addresses of one appliance.

    Attributes:
        on_change: called when `urls` or `name_url` has changed.
        on_addresses: called when the computer's addresses changed, or it woke up.
        port: the port that the server listens on.
        name: the host name that is announced, such as ``classroom-k7pm.local``; "" while none is.
    """

    def __init__(
        self,
        folder: Path,
        counters: Counters,
        *,
        host: str,
        port: int,
        preferred: str = "",
        seconds: float = 3,
        find: Callable[[], list[NetworkAddress]] = lan_addresses,
    ) -> None:
        """Args:
        folder: the data folder.
        counters: where changes are counted.
        host: the address that the server listens on.
        port: the port that it listens on; 0 until `listening_on` is called.
        preferred: the address or URL that the configuration names; "" for none.
        seconds: how often the adapters are read.
        find: reads this computer's addresses, the likeliest first.
        """
        self.on_change: Listeners[[]] = Listeners("changes of the join address")
        self.on_addresses: Listeners[[]] = Listeners("changes of the network")
        self.name = ""
        self._file: SmallFile[SavedNetwork] = SmallFile(folder / FILE, SavedNetwork)
        self._counters = counters
        self._host = host
        self.port = port
        self._preferred = preferred
        self._seconds = seconds
        self._find = find
        self._found: list[NetworkAddress] = []
        self._saved = self._read()
        self.refresh()

    @property
    def addresses(self) -> Sequence[NetworkAddress]:
        """Where others could reach this computer, the likeliest first; empty where it is in no network."""
        return self._found

    def wanted_name(self) -> str:
        """The host name to announce, without ``.local``; always the same with this data folder."""
        return self._saved.name or self.another_name()

    def another_name(self) -> str:
        """Choose another host name, because another computer in the network has this one."""
        drawn = "".join(secrets.choice(_NAME_CHARACTERS) for _ in range(_NAME_LENGTH))
        self._saved.name = f"classroom-{drawn}"
        self._write()
        return self._saved.name

    def listening_on(self, port: int) -> None:
        """Set the port that the server got; it is part of the addresses."""
        self.port = port

    def urls(self) -> list[str]:
        """The URLs of the join page; the first is the one to show."""
        urls = [join_url(host, self.port) for host in self._hosts()]
        chosen = self._chosen(urls)
        return urls if chosen is None else [chosen, *(url for url in urls if url != chosen)]

    @property
    def name_url(self) -> str:
        """The URL of the join page with the announced host name; "" while none is announced."""
        return join_url(self.name, self.port) if self.name else ""

    def choose(self, url: str) -> None:
        """Show this URL first from now on.

        Raises:
            ValueError: it is not one of `urls`.
            SettingsError: the choice cannot be kept.
        """
        if url not in self.urls():
            raise ValueError(url)
        host = urlsplit(url).hostname or ""
        adapter = next((address.adapter for address in self._found if address.ip == host), "")
        self._saved.host, self._saved.adapter = host, adapter
        self._write()
        self.on_change()

    def announced(self, name: str) -> None:
        """Set the host name that is announced; "" for none."""
        if name != self.name:
            self.name = name
            self.on_change()

    def refresh(self) -> bool:
        """Read the adapters; returns whether the addresses have changed."""
        if self._host not in WILDCARDS:
            found = [NetworkAddress(0, self._host)]
        else:
            try:
                # Only `::` listens to IPv6.
                found = [address for address in self._find() if self._host == "::" or ":" not in address.ip]
            except OSError as error:
                log.warning("The network adapters cannot be read: %s.", error.strerror)
                return False
        if found == self._found:
            return False
        self._found = found
        return True

    async def watch(self, clock: Callable[[], float] = time.time) -> None:
        """Read the adapters every few seconds, and call the listeners when something changed."""
        before = clock()
        while True:
            await asyncio.sleep(self._seconds)
            # Timers stop while the computer sleeps, the wall clock does not.
            now = clock()
            slept = now - before - self._seconds
            before = now
            changed = self.refresh()
            if changed:
                self._counters.add("network_changes")
                log.info("The network changed. Students join at %s now.", self.urls()[0])
                self.on_change()
            if slept > _SLEPT_SECONDS:
                self._counters.add("wake_ups")
                log.info("The computer was asleep for about %d seconds.", slept)
            if changed or slept > _SLEPT_SECONDS:
                self.on_addresses()

    def _hosts(self) -> list[str]:
        hosts = [self._preferred] if self._preferred else []
        hosts += [address.ip for address in self._found] or ["127.0.0.1"]
        if self.name:
            hosts.append(self.name)
        return list(dict.fromkeys(hosts))

    def _chosen(self, urls: Sequence[str]) -> str | None:
        saved = self._saved
        if not saved.host:
            return None
        by_host = {urlsplit(url).hostname: url for url in reversed(urls)}
        if saved.host in by_host:
            return by_host[saved.host]
        # The adapter may have got another address since.
        same = next((address.ip for address in self._found if saved.adapter == address.adapter != ""), None)
        return by_host.get(same)

    def _read(self) -> SavedNetwork:
        try:
            found = self._file.read()
        except OSError:
            found = None
        if found is None and self._file.path.exists():
            log.warning("%s cannot be read and is not used.", self._file.path)
        return found or SavedNetwork()

    def _write(self) -> None:
        try:
            self._file.write(self._saved)
        except OSError as error:
            raise SettingsError(f"{self._file.path} cannot be written: {error.strerror}.") from error


def on_link(ip: str, addresses: Sequence[NetworkAddress]) -> bool:
    """Whether an IPv4 address belongs to a network that this computer is directly connected to."""
    try:
        other = ipaddress.ip_address(ip)
        return any(
            other in ipaddress.ip_network(f"{address.ip}/{address.prefix}", strict=False) for address in addresses
        )
    except ValueError:
        return False
