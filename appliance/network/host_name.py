"""Finds out whether a host name in the local network is taken (multicast DNS, RFC 6762 section 8).

It imports zeroconf, which takes so long that it would delay requests: import it in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from zeroconf import RecordUpdate, RecordUpdateListener

if TYPE_CHECKING:
    from zeroconf import Zeroconf

# A computer that has the name must answer a probe within a quarter of a second; the last wait is for slow networks.
_PROBE_SECONDS = (0.25, 0.25, 0.5)
_QUERY = 0
_TYPE_A = 1
_CLASS_IN = 1
_HOST_TTL_SECONDS = 120


class Claim(RecordUpdateListener):
    """The claim of this computer on a host name, and whether another computer has that name.

    Another computer has it if an IPv4 address is announced under the name that is not one of this computer.
    """

    def __init__(self, zeroconf: Zeroconf, name: str, addresses: Iterable[str]) -> None:
        """Begin to listen. Only within the event loop.

        Args:
            zeroconf: sends and receives; it has started.
            name: the host name with ``.local``.
            addresses: the IPv4 addresses of this computer, to be announced under the name.
        """
        self._zeroconf = zeroconf
        self._name = f"{name}."
        self._own = {socket.inet_aton(address) for address in addresses}
        self._taken = asyncio.Event()
        self._on_taken: Callable[[], None] | None = None
        module: Any = importlib.import_module("zeroconf")
        self._question = module.DNSQuestion(self._name, _TYPE_A, _CLASS_IN)
        # This also delivers the records that zeroconf has already.
        zeroconf.async_add_listener(self, self._question)

    async def taken(self) -> bool:
        """Whether another computer has the name. It takes a second if none has."""
        for seconds in _PROBE_SECONDS:
            if not self._taken.is_set():
                self._zeroconf.async_send(self._probe())
            try:
                async with asyncio.timeout(seconds):
                    await self._taken.wait()
                return True
            except TimeoutError:
                continue
        return False

    def watch(self, on_taken: Callable[[], None]) -> None:
        """Call this once, when another computer has the name; at once if that is known already."""
        if self._taken.is_set():
            on_taken()
        else:
            self._on_taken = on_taken

    def release(self) -> None:
        """Stop listening."""
        self._on_taken = None
        self._zeroconf.async_remove_listener(self)

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Process the records that zeroconf received: answers and announcements."""
        if any(self._is_foreign(update.new, now) for update in records):
            self._taken.set()
            on_taken, self._on_taken = self._on_taken, None
            if on_taken is not None:
                on_taken()

    def _is_foreign(self, record: Any, now: float) -> bool:
        return (
            record.type == _TYPE_A
            and record.name.lower() == self._name.lower()
            # A goodbye packet withdraws the name.
            and not record.is_expired(now)
            and record.address not in self._own
        )

    def _probe(self) -> Any:
        """A probe: a multicast question that holds the records to be announced.

        It asks for an answer by multicast: a unicast answer reaches only one of the programs that share port 5353 on
        this computer (RFC 6762 section 15.1), which may be the system's own responder. The records are in the authority
        section, because a probe is answered at once, while other multicast answers may be delayed by a second and more.
        """
        module: Any = importlib.import_module("zeroconf")
        out = module.DNSOutgoing(_QUERY)
        out.add_question(self._question)
        # `add_authorative_answer` accepts pointer records only.
        for address in sorted(self._own):
            out.authorities.append(module.DNSAddress(self._name, _TYPE_A, _CLASS_IN, _HOST_TTL_SECONDS, address))
        return out
