"""The network as it is now: at which addresses students reach this computer, and which of them they are shown.

Adapters come and go, a laptop moves from one network to another and sleeps in between. So the adapters are looked at
every few seconds, and what changed is told. The educator may choose another address than the one that was found; the
choice is kept in the data folder and holds as long as that address, or at least its adapter, is there.
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
from appliance.datafolder.files import write_private
from appliance.errors import SettingsError
from appliance.listeners import Listeners
from appliance.network.addresses import Address, join_url, lan_addresses

log = logging.getLogger(__name__)

FILE = "network.json"
WILDCARDS = ("", "0.0.0.0", "::")
# Letters and digits that nobody takes for another.
_NAME_CHARACTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_NAME_LENGTH = 4
# So much more time on the wall than on the processor's clock: the computer slept.
_SLEPT_SECONDS = 20.0


class Remembered(msgspec.Struct):
    """``network.json`` in the data folder.

    Attributes:
        host: the address or name that the educator chose; "" for the one that is found.
        adapter: the adapter it was on; "" where it is a name.
        name: the host name to announce, without ``.local``.
    """

    host: str = ""
    adapter: str = ""
    name: str = ""


class Network:
    """The addresses of one appliance.

    Attributes:
        on_change: called when what `urls` gives has changed.
        on_addresses: called when the computer's addresses changed, or it woke up.
        port: the port the server listens on.
        name: the name that is announced, as ``classroom-k7pm.local``; "" while none is.
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
        look: Callable[[], list[Address]] = lan_addresses,
    ) -> None:
        """Args:
        folder: the data folder.
        counters: where changes are counted.
        host: what the server listens on.
        port: the port it listens on; `listening_on` tells it where it is not known yet.
        preferred: the address or URL that the configuration names, or "".
        seconds: between two looks at the adapters.
        look: finds this computer's addresses.
        """
        self.on_change: Listeners[[]] = Listeners("changes of the join address")
        self.on_addresses: Listeners[[]] = Listeners("changes of the network")
        self.name = ""
        self._file = folder / FILE
        self._counters = counters
        self._host = host
        self.port = port
        self._preferred = preferred
        self._seconds = seconds
        self._look = look
        self._found: list[Address] = []
        self._remembered = self._read()
        self.look()

    @property
    def addresses(self) -> Sequence[Address]:
        """Where others could reach this computer, the likeliest first; none where it is in no network."""
        return self._found

    def wanted_name(self) -> str:
        """The name to announce, as ``classroom-k7pm``; always the same on this data folder."""
        return self._remembered.name or self.another_name()

    def another_name(self) -> str:
        """Choose another name, because somebody else in the network has ours."""
        drawn = "".join(secrets.choice(_NAME_CHARACTERS) for _ in range(_NAME_LENGTH))
        self._remembered.name = f"classroom-{drawn}"
        self._write()
        return self._remembered.name

    def listening_on(self, port: int) -> None:
        """Say which port the server got; the addresses name it."""
        self.port = port

    def urls(self) -> list[str]:
        """The addresses of the join page, the one to show first."""
        urls = [join_url(host, self.port) for host in self._hosts()]
        chosen = self._chosen(urls)
        return urls if chosen is None else [chosen, *(url for url in urls if url != chosen)]

    @property
    def name_url(self) -> str:
        """The address of the join page by the name that is announced; "" while none is."""
        return join_url(self.name, self.port) if self.name else ""

    def choose(self, url: str) -> None:
        """Show this address first from now on.

        Raises:
            ValueError: it is not one of `urls`.
            SettingsError: the choice cannot be kept.
        """
        if url not in self.urls():
            raise ValueError(url)
        host = urlsplit(url).hostname or ""
        adapter = next((address.adapter for address in self._found if address.ip == host), "")
        self._remembered.host, self._remembered.adapter = host, adapter
        self._write()
        self.on_change()

    def announced(self, name: str) -> None:
        """Say which name is announced now; "" when none is any more."""
        if name != self.name:
            self.name = name
            self.on_change()

    def look(self) -> bool:
        """Look at the adapters; returns whether the addresses are others than before."""
        if self._host not in WILDCARDS:
            found = [Address(0, self._host)]
        else:
            try:
                found = self._look()
            except OSError as error:
                log.warning("The network adapters cannot be read: %s.", error.strerror)
                return False
        if found == self._found:
            return False
        self._found = found
        return True

    async def watch(self, clock: Callable[[], float] = time.time) -> None:
        """Look at the adapters every few seconds, and tell what changed."""
        before = clock()
        while True:
            await asyncio.sleep(self._seconds)
            # Timers stand still while the computer sleeps, the clock on the wall does not.
            now = clock()
            slept = now - before - self._seconds
            before = now
            changed = self.look()
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
        remembered = self._remembered
        if not remembered.host:
            return None
        by_host = {urlsplit(url).hostname: url for url in reversed(urls)}
        if remembered.host in by_host:
            return by_host[remembered.host]
        # The same network as before may have given another address.
        same = next((address.ip for address in self._found if remembered.adapter == address.adapter != ""), None)
        return by_host.get(same)

    def _read(self) -> Remembered:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            log.warning("%s cannot be read; the address is chosen anew.", self._file)
            return Remembered()

    def _write(self) -> None:
        try:
            write_private(self._file, msgspec.json.encode(self._remembered) + b"\n")
        except OSError as error:
            raise SettingsError(f"{self._file} cannot be written: {error.strerror}.") from error


def on_link(ip: str, addresses: Sequence[Address]) -> bool:
    """Whether an IPv4 address is in one of the networks in which this computer itself is."""
    try:
        asked = ipaddress.ip_address(ip)
        return any(
            asked in ipaddress.ip_network(f"{address.ip}/{address.prefix}", strict=False) for address in addresses
        )
    except ValueError:
        return False
