"""Nodes of topics on the pubsub service (XEP-0060): their names, and that each belongs to the appliances alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from typing import Literal
from xml.etree.ElementTree import Element

from appliance.pubsub.xmpp import reasons, stanzas
from appliance.pubsub.xmpp.background import Background
from appliance.pubsub.xmpp.connection import XmppConnection
from appliance.pubsub.xmpp.reasons import AwayError, RefusedError
from appliance.pubsub.xmpp.stanzas import Publication
from appliance.pubsub.xmpp.url import XmppUrl

LONGEST_NODE = 200
RESOURCE = "observer-"
"""The beginning of the resource of each process, in its account's address."""
WINDOW = 32
"""Requests that may await their answers, one of each topic; what is published meanwhile goes out together after it."""
CREATION_SECONDS = 0.3
"""The pause between tries to use a node that another appliance has just made, and not yet opened to us."""
CREATION_TRIES = 8


def node_of(prefix: str, topic: str) -> str:
    """The name of a topic's node: safe for every server, and another for every topic.

    Bytes other than a-z, 0-9 and ``-._`` become ``=`` and two hexadecimal digits, a ``/`` stays; a name that gets
    too long ends in a hash of the topic.
    """
    name = "".join(
        chr(byte) if re.match(rb"[a-z0-9._/-]", bytes((byte,))) else f"={byte:02x}"
        for byte in topic.encode("utf-8", "surrogatepass")
    )
    whole = f"{prefix}/{name}"
    if len(whole) <= LONGEST_NODE:
        return whole
    digest = hashlib.sha256(topic.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"{whole[: LONGEST_NODE - len(digest) - 2]}=={digest}"


class TopicNodes:
    """Makes, uses and removes the nodes of topics.

    Attributes:
        url: the accounts to which nodes belong, and the service.
        connection: to the server.
        window: bounds the requests of many topics at once.
    """

    def __init__(self, url: XmppUrl, connection: XmppConnection, background: Background) -> None:
        self.url = url
        self.connection = connection
        self.window = asyncio.Semaphore(WINDOW)
        self._background = background
        self._names: dict[str, str] = {}
        self._topics: dict[str, str] = {}
        # Topics whose nodes were seen to be ours.
        self._made: set[str] = set()
        # Addresses of processes that were found to have ended.
        self._dead: set[str] = set()

    def name(self, topic: str) -> str:
        """The name of a topic's node."""
        name = self._names.get(topic)
        if name is None:
            name = self._names[topic] = node_of(self.url.prefix, topic)
            self._topics[name] = topic
        return name

    def topic(self, name: str) -> str | None:
        """The topic of a node; None if this process never used it."""
        return self._topics.get(name)

    async def request(self, kind: Literal["get", "set"], payload: Element) -> Element:
        """Send a request to the pubsub service; returns the answer.

        Raises:
            RefusedError: the answer is an error.
            AwayError: there was no answer in time, or there is no session.
        """
        return await self.connection.request(kind, payload, self.url.service)

    async def publish(self, topic: str, publication: Publication) -> None:
        """Publish to a topic; its node is made if need be. Errors are those of `request` and `make`."""
        await self.make(topic)
        await self.request("set", stanzas.publish(publication))

    async def subscribe(self, topic: str) -> None:
        """Subscribe this session to a topic; its node is made if need be.

        Raises:
            TroubleError: this account may not.
            AwayError: the connection was lost.
        """
        try:
            await self._subscribe(topic)
        except RefusedError as refused:
            if refused.condition != "item-not-found":
                raise reasons.of_node(refused.condition, self.url) from None
            self.forget(topic)
            await self._subscribe(topic)

    async def leave(self, topic: str) -> None:
        """End this session's subscription of a topic.

        Raises:
            AwayError: the connection was lost.
        """
        await self.leave_node(self.name(topic))

    async def leave_node(self, node: str) -> None:
        """The same, by the name of the node."""
        await self._unsubscribe(node, self.connection.jid)

    def forget(self, topic: str) -> None:
        """Note that a topic's node was removed."""
        self._made.discard(topic)

    async def delete(self, topic: str) -> None:
        """Remove a topic's node from the server.

        Raises:
            RefusedError: the server does not.
            AwayError: the connection was lost.
        """
        # Prosody 0.12 does not forget the subscriptions of a node that is removed.
        await self.leave(topic)
        await self.request("set", stanzas.delete(self.name(topic)))

    async def make(self, topic: str) -> None:
        """Make a topic's node, or check that the one which exists belongs to our accounts alone; once.

        Raises:
            TroubleError: it does not, or we may not make it.
            AwayError: the connection was lost.
        """
        if topic in self._made:
            return
        node = self.name(topic)
        others = [account for account in self.url.nodes if account != self.url.account]
        try:
            await self.request("set", stanzas.create(node))
            await self._affiliate(node, [(account, "owner") for account in others])
        except RefusedError as refused:
            if refused.condition != "conflict":
                raise reasons.of_node(refused.condition, self.url) from None
            await self._adopt(node)
            self._background.run(self._sweep, node)
        self._made.add(topic)

    async def _subscribe(self, topic: str) -> None:
        await self.make(topic)
        await self.request("set", stanzas.subscribe(self.name(topic), self.connection.jid))

    async def _unsubscribe(self, node: str, address: str) -> None:
        with contextlib.suppress(RefusedError):
            await self.request("set", stanzas.unsubscribe(node, address))

    async def _adopt(self, node: str) -> None:
        """Give a node that exists our accounts and configuration, unless it has other owners."""
        found = stanzas.affiliations_of(await self._affiliations(node))
        foreign = {account: what for account, what in found.items() if account not in self.url.nodes}
        owners = [account for account, what in foreign.items() if what == "owner"]
        if owners:
            raise reasons.of_foreign_owners(owners, self.url)
        changes = [(account, "none") for account in foreign]
        changes += [(account, "owner") for account in self.url.nodes if found.get(account) != "owner"]
        try:
            await self._affiliate(node, changes)
            await self.request("set", stanzas.configure(node))
        except RefusedError as refused:
            raise reasons.of_node(refused.condition, self.url) from None

    async def _affiliations(self, node: str) -> Element:
        for _ in range(CREATION_TRIES - 1):
            try:
                return await self.request("get", stanzas.affiliations(node))
            except RefusedError as refused:
                if refused.condition != "forbidden":
                    raise reasons.of_node(refused.condition, self.url) from None
                await asyncio.sleep(CREATION_SECONDS)
        try:
            return await self.request("get", stanzas.affiliations(node))
        except RefusedError as refused:
            raise reasons.of_node(refused.condition, self.url) from None

    async def _affiliate(self, node: str, changes: list[tuple[str, str]]) -> None:
        # One by one: of several new owners in one request, ejabberd 23.01 keeps but the last.
        for change in changes:
            await self.request("set", stanzas.affiliations(node, [change]))

    async def _sweep(self, node: str) -> None:
        """End subscriptions that processes of our account left behind when they were killed."""
        own = f"{self.url.account}/{RESOURCE}"
        with contextlib.suppress(RefusedError, AwayError):
            answer = await self.request("get", stanzas.subscribers(node))
            for address in stanzas.subscribers_of(answer):
                if address.startswith(own) and address != self.connection.jid:
                    if address not in self._dead and await self.connection.is_connected(address):
                        continue
                    self._dead.add(address)
                    await self._unsubscribe(node, address)
