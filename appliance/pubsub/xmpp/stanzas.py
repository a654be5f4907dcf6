"""The XML of publish/subscribe (XEP-0060), written and read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement

import msgspec

PUBSUB = "http://jabber.org/protocol/pubsub"
OWNER = f"{PUBSUB}#owner"
EVENT = f"{PUBSUB}#event"
DISCO = "http://jabber.org/protocol/disco#info"
VERSION = "jabber:iq:version"
TIME = "urn:xmpp:time"
HINTS = "urn:classroom-observer:hints:1"
FORM = "jabber:x:data"

OVERHEAD = 2000
"""Bytes of a stanza that are not messages, at most: addresses, the node's name, XML. Servers add some on delivery."""

CONFIGURATION = {
    "access_model": "whitelist",
    "publish_model": "publishers",
    "persist_items": "0",
    "max_items": "1",
    "send_last_published_item": "never",
    "deliver_notifications": "1",
    "deliver_payloads": "1",
    "notify_delete": "1",
    "notify_retract": "0",
    # A message of type normal to a connection that is gone would be kept for later by the server.
    "notification_type": "headline",
}
"""Configuration of a node: for members alone, and without a memory, which would cost a write to the disk each time."""


class Publication(msgspec.Struct, frozen=True):
    """One publication.

    Attributes:
        node: the node's name.
        publisher: the random name of the process that published it.
        number: its number among the publisher's for this node, from 1.
        messages: empty for the request to read the store again.
    """

    node: str
    publisher: str
    number: int
    messages: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of all messages together."""
        return sum(len(message) for message in self.messages)

    def without_messages(self) -> Publication:
        """The request to read the store again, instead of the messages."""
        return Publication(self.node, self.publisher, self.number, ())


def create(node: str) -> Element:
    """Make a node, with its configuration."""
    request = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(request, f"{{{PUBSUB}}}create", node=node)
    _form(SubElement(request, f"{{{PUBSUB}}}configure"))
    return request


def configure(node: str) -> Element:
    """Give a node that exists our configuration."""
    request = Element(f"{{{OWNER}}}pubsub")
    _form(SubElement(request, f"{{{OWNER}}}configure", node=node))
    return request


def delete(node: str) -> Element:
    """Remove a node."""
    request = Element(f"{{{OWNER}}}pubsub")
    SubElement(request, f"{{{OWNER}}}delete", node=node)
    return request


def affiliations(node: str, changes: Iterable[tuple[str, str]] = ()) -> Element:
    """Ask for the rights of accounts on a node, or change them.

    Args:
        changes: pairs of an account and ``owner`` or ``none``; none for a question.
    """
    request = Element(f"{{{OWNER}}}pubsub")
    listed = SubElement(request, f"{{{OWNER}}}affiliations", node=node)
    for account, affiliation in changes:
        SubElement(listed, f"{{{OWNER}}}affiliation", jid=account, affiliation=affiliation)
    return request


def affiliations_of(answer: Element) -> dict[str, str]:
    """Accounts and their rights, from an answer to `affiliations`."""
    return {
        found.get("jid", ""): found.get("affiliation", "")
        for found in answer.iter(f"{{{OWNER}}}affiliation")
        if found.get("affiliation") not in (None, "none")
    }


def subscribe(node: str, address: str) -> Element:
    """Subscribe an address."""
    request = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(request, f"{{{PUBSUB}}}subscribe", node=node, jid=address)
    return request


def unsubscribe(node: str, address: str) -> Element:
    """End a subscription."""
    request = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(request, f"{{{PUBSUB}}}unsubscribe", node=node, jid=address)
    return request


def subscribers(node: str) -> Element:
    """Ask, as an owner, for the subscribers of a node."""
    request = Element(f"{{{OWNER}}}pubsub")
    SubElement(request, f"{{{OWNER}}}subscriptions", node=node)
    return request


def subscribers_of(answer: Element) -> list[str]:
    """Addresses, from an answer to `subscribers`."""
    return [
        found.get("jid", "")
        for found in answer.iter(f"{{{OWNER}}}subscription")
        if found.get("subscription") == "subscribed"
    ]


def publish(publication: Publication) -> Element:
    """Publish."""
    request = Element(f"{{{PUBSUB}}}pubsub")
    published = SubElement(request, f"{{{PUBSUB}}}publish", node=publication.node)
    item = SubElement(published, f"{{{PUBSUB}}}item")
    payload = SubElement(item, f"{{{HINTS}}}hints", {"from": publication.publisher, "number": str(publication.number)})
    # All in one piece: servers take long over many small elements, and copy each for every subscriber.
    payload.text = base64.b64encode(msgspec.msgpack.encode(publication.messages)).decode()
    return request


def publications(message: Element) -> Iterator[Publication]:
    """The publications in a message from the pubsub service; foreign ones are left out."""
    for items in message.iterfind(f"{{{EVENT}}}event/{{{EVENT}}}items"):
        for payload in items.iterfind(f"*/{{{HINTS}}}hints"):
            try:
                yield Publication(
                    items.get("node", ""),
                    payload.get("from", ""),
                    int(payload.get("number", "")),
                    msgspec.msgpack.decode(base64.b64decode(payload.text or "", validate=True), type=tuple[bytes, ...]),
                )
            except (ValueError, msgspec.DecodeError):
                continue


def removals(message: Element) -> list[str]:
    """The nodes whose removal a message from the pubsub service reports."""
    return [found.get("node", "") for found in message.iterfind(f"{{{EVENT}}}event/{{{EVENT}}}delete")]


def question() -> Element:
    """Ask an address for its identity (XEP-0030)."""
    return Element(f"{{{DISCO}}}query")


def is_pubsub(answer: Element) -> bool:
    """Whether an answer to `question` says that it is a pubsub service."""
    return any(
        found.get("category") == "pubsub" and found.get("type") == "service"
        for found in answer.iter(f"{{{DISCO}}}identity")
    )


def version() -> Element:
    """Ask for the name and version of a program (XEP-0092)."""
    return Element(f"{{{VERSION}}}query")


def version_of(answer: Element) -> str:
    """Name and version, from an answer to `version`."""
    parts = (answer.findtext(f"{{{VERSION}}}query/{{{VERSION}}}{name}", "") for name in ("name", "version"))
    return " ".join(filter(None, parts))


def time() -> Element:
    """Ask for the time (XEP-0202)."""
    return Element(f"{{{TIME}}}time")


def time_of(answer: Element) -> datetime | None:
    """The time, from an answer to `time`."""
    try:
        return datetime.fromisoformat(answer.findtext(f"{{{TIME}}}time/{{{TIME}}}utc", ""))
    except ValueError:
        return None


def ping() -> Element:
    """Ask for a sign of life (XEP-0199)."""
    return Element("{urn:xmpp:ping}ping")


def _form(parent: Element) -> None:
    form = SubElement(parent, f"{{{FORM}}}x", type="submit")
    fields = {"FORM_TYPE": f"{PUBSUB}#node_config"}
    fields |= {f"pubsub#{name}": value for name, value in CONFIGURATION.items()}
    for name, value in fields.items():
        field = SubElement(form, f"{{{FORM}}}field", var=name)
        SubElement(field, f"{{{FORM}}}value").text = value
