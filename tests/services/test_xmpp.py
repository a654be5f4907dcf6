"""The XMPP pubsub on real servers: permissions, refusals and their messages."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from appliance.config import Configuration, PubsubSettings, Settings
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Health
from appliance.pubsub import RESYNC
from appliance.pubsub.xmpp import stanzas
from appliance.pubsub.xmpp.backend import XmppPubSub
from appliance.pubsub.xmpp.connection import Owner, Pace, XmppConnection
from appliance.pubsub.xmpp.nodes import node_of
from appliance.pubsub.xmpp.reasons import RefusedError
from appliance.pubsub.xmpp.url import parse_url
from appliance.tasks import Tasks
from tests.contract.pubsub import take
from tests.services.ejabberd import Ejabberd
from tests.services.prosody import Prosody
from tests.services.servers import free_port
from tests.services.xmpp import ACCOUNTS, NODES, PASSWORD, certificates, url

pytestmark = pytest.mark.services

Server = Prosody | Ejabberd

ODD_HOSTS = """
VirtualHost "expired.example"
	ssl = { certificate = "FOLDER/expired/server.crt"; key = "FOLDER/expired/server.key" }
VirtualHost "renamed.example"
	ssl = { certificate = "FOLDER/renamed/server.crt"; key = "FOLDER/renamed/server.key" }
VirtualHost "nologin.example"
	ssl = { certificate = "FOLDER/nologin/server.crt"; key = "FOLDER/nologin/server.key" }
	disable_sasl_mechanisms = { "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS" }
VirtualHost "open.example"
	modules_disabled = { "tls", "s2s", "offline" }
	c2s_require_encryption = false
Component "pubsub.open.example" "pubsub"
	admins = { "node1@open.example" }
VirtualHost "school.example"
"""


@pytest.fixture(scope="module")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    """Prosody as documented, with more hosts that have faults."""
    folder = tmp_path_factory.mktemp("prosody")
    for name, certified in (("expired", "expired"), ("renamed", "other"), ("nologin", "nologin")):
        (folder / name).mkdir()
        certificates(folder / name, f"{certified}.example", expired=name == "expired")
    hosts = ODD_HOSTS.replace("FOLDER", str(folder)).lstrip()
    with Prosody(folder, changes=[('VirtualHost "school.example"\n', hosts)]) as server:
        yield server


@pytest.fixture(scope="module")
def ejabberd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ejabberd]:
    with Ejabberd(tmp_path_factory.mktemp("ejabberd")) as server:
        yield server


@pytest.fixture(params=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Server:
    """Either server."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def prefix() -> str:
    """A separate prefix for each test."""
    return uuid.uuid4().hex[:8]


@asynccontextmanager
async def node(
    server: Server, prefix: str, user: str = "node1", nodes: str = NODES, **options: Any
) -> AsyncIterator[tuple[XmppPubSub, Counters]]:
    """An appliance's pubsub, and its counters."""
    counters = Counters()
    pubsub = XmppPubSub(
        url(server.port, server.ca, user, f"nodes={nodes}&prefix={prefix}"), counters, 1000, 1000, **options
    )
    try:
        yield pubsub, counters
    finally:
        await pubsub.close()


@asynccontextmanager
async def account(server: Server, user: str) -> AsyncIterator[XmppConnection]:
    """A bare connection of an account."""

    async def nothing() -> None: ...

    owner = Owner(nothing, lambda: None, lambda sender, event: None, lambda trouble: None)
    connection = XmppConnection(
        parse_url(url(server.port, server.ca, user, "")), "by-hand", owner, Pace(), Tasks(Health(), Counters())
    )
    connection.start()
    try:
        async with asyncio.timeout(10):
            await connection.ready()
        yield connection
    finally:
        await connection.close()


async def ask(connection: XmppConnection, kind: Any, payload: Any) -> Any:
    """Send a request to the pubsub service."""
    return await connection.request(kind, payload, "pubsub.school.example")


async def why_not(text: str, **pace: float) -> str:
    """The sentence of `check` that says why a pubsub cannot be used."""
    pubsub = XmppPubSub(text, Counters(), 10, 10, Pace(**pace))
    try:
        with pytest.raises(BackendError) as caught:
            async for _ in pubsub.examine():
                pass
        return str(caught.value)
    finally:
        await pubsub.close()


class TestStudents:
    async def test_an_ordinary_account_may_do_nothing_with_a_topic(self, server: Server, prefix: str) -> None:
        name = node_of(prefix, "class/1")
        async with node(server, prefix) as (pubsub, _), account(server, "student") as student:
            async with pubsub.subscribe("class/1") as subscription:
                hints = stanzas.Publication(name, "student", 1, (b"[]",))
                for kind, payload in (
                    ("set", stanzas.subscribe(name, student.jid)),
                    ("set", stanzas.subscribe(name, student.jid.partition("/")[0])),
                    ("set", stanzas.publish(hints)),
                    ("get", stanzas.affiliations(name)),
                    ("set", stanzas.affiliations(name, [("student@school.example", "owner")])),
                    ("get", stanzas.subscribers(name)),
                    ("set", stanzas.configure(name)),
                    ("set", stanzas.delete(name)),
                    ("set", stanzas.create(node_of(prefix, "class/2"))),
                ):
                    with pytest.raises(RefusedError, match=r"forbidden|not-allowed|closed-node|unexpected-request"):
                        await ask(student, kind, payload)
                await pubsub.publish("class/1", b"real")
                assert await take(subscription, 1) == [b"real"]

    async def test_a_forged_event_is_not_received(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (pubsub, counters), account(server, "student") as student:
            async with pubsub.subscribe("class/1") as subscription:
                forged = student.client.make_message(pubsub.connection.jid, mtype="headline")
                event = SubElement(forged.xml, f"{{{stanzas.EVENT}}}event")
                items = SubElement(event, f"{{{stanzas.EVENT}}}items", node=node_of(prefix, "class/1"))
                item = SubElement(items, f"{{{stanzas.EVENT}}}item")
                hints = stanzas.Publication("n", "student", 1, (b"forged",))
                item.append(stanzas.publish(hints).find(f".//{{{stanzas.HINTS}}}hints"))
                forged.send()
                async with asyncio.timeout(10):
                    while not counters["pubsub_forged_events"]:
                        await asyncio.sleep(0.01)
                await pubsub.publish("class/1", b"real")
                assert await take(subscription, 1) == [b"real"]

    async def test_who_was_let_in_by_hand_is_put_out_by_the_next_node(self, server: Server, prefix: str) -> None:
        name = node_of(prefix, "class/1")
        async with node(server, prefix) as (pubsub, _), account(server, "node1") as owner:
            async with pubsub.subscribe("class/1"):
                await ask(owner, "set", stanzas.affiliations(name, [("student@school.example", "member")]))
                async with node(server, prefix, "node2") as (second, _), second.subscribe("class/1"):
                    found = stanzas.affiliations_of(await ask(owner, "get", stanzas.affiliations(name)))
        assert found == {f"node{number}@school.example": "owner" for number in (1, 2, 3)}


class TestWithoutEncryption:
    async def test_it_works_on_this_computer_where_it_is_asked_for(self, prosody: Prosody, prefix: str) -> None:
        prosody.register("node1", "open.example", "hush")
        pubsub = XmppPubSub(
            f"xmpp://node1:hush@open.example:{prosody.port}?host=127.0.0.1&tls=off&prefix={prefix}", Counters(), 10, 10
        )
        async with pubsub.subscribe("t") as subscription:
            await pubsub.publish("t", b"x")
            assert await take(subscription, 1) == [b"x"]
        await pubsub.close()


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
class TestUvloop:
    def test_it_works_and_says_what_is_wrong_with_a_certificate_there_too(self, server: Server, prefix: str) -> None:
        import uvloop

        async def talk() -> str:
            async with node(server, prefix) as (one, _), node(server, prefix, "node2") as (two, _):
                async with one.subscribe("t") as a, two.subscribe("t") as b:
                    for number in range(200):
                        await one.publish("t", b"%d" % number)
                    for subscription in (a, b):
                        assert await take(subscription, 200) == [b"%d" % number for number in range(200)]
            return await why_not(url(server.port, server.ca).replace(f"ca={server.ca}&", ""))

        assert "was not signed by an authority that this computer trusts" in uvloop.run(talk())


class TestNodes:
    async def test_a_topic_that_belongs_to_another_account_as_well_is_refused(
        self, server: Server, prefix: str
    ) -> None:
        async with node(server, prefix, "node3", nodes="node3,node1") as (other, _), other.subscribe("class/1"):
            async with node(server, prefix, nodes="node1,node2") as (pubsub, _):
                with pytest.raises(BackendError, match=r"also belong to node3@school\.example, which nodes= does not"):
                    async with pubsub.subscribe("class/1"):
                        pass

    async def test_all_nodes_receive_all_messages_in_one_order(self, server: Server, prefix: str) -> None:
        async with (
            node(server, prefix, "node1") as (one, _),
            node(server, prefix, "node2") as (two, _),
            node(server, prefix, "node3") as (three, _),
        ):
            async with one.subscribe("t") as a, two.subscribe("t") as b, three.subscribe("t") as c:
                for number in range(20):
                    for pubsub in (one, two, three):
                        await pubsub.publish("t", b"%d" % number)
                received = [await take(subscription, 60) for subscription in (a, b, c)]
        assert received[0] == received[1] == received[2]
        assert RESYNC not in received[0]

    async def test_two_processes_may_share_an_account(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (one, _), node(server, prefix) as (two, _):
            async with one.subscribe("t") as a, two.subscribe("t") as b:
                await one.publish("t", b"x")
                assert await take(a, 1) == await take(b, 1) == [b"x"]

    async def test_a_subscription_that_a_dead_process_left_is_ended(self, server: Server, prefix: str) -> None:
        name = node_of(prefix, "t")
        async with node(server, prefix) as (first, _), first.subscribe("t"):
            async with account(server, "node1") as by_hand:
                left = "node1@school.example/observer-dead"
                await ask(by_hand, "set", stanzas.subscribe(name, left))
                async with node(server, prefix) as (second, _), second.subscribe("t"):
                    async with asyncio.timeout(10):
                        while True:
                            answer = await ask(by_hand, "get", stanzas.subscribers(name))
                            addresses = set(stanzas.subscribers_of(answer))
                            if left not in addresses:
                                break
                            await asyncio.sleep(0.02)
                assert addresses >= {first.connection.jid, second.connection.jid}

    async def test_a_topic_that_is_removed_on_the_server_comes_back(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (one, _), node(server, prefix, "node2") as (two, _):
            async with one.subscribe("t") as a, two.subscribe("t") as b:
                async with account(server, "node3") as admin:
                    await ask(admin, "set", stanzas.delete(node_of(prefix, "t")))
                assert await take(a, 1) == await take(b, 1) == [RESYNC]
                await one.publish("t", b"x")
                assert await take(a, 1) == await take(b, 1) == [b"x"]

    async def test_nothing_of_ours_is_left_subscribed_after_an_orderly_end(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (pubsub, _), pubsub.subscribe("t"):
            await pubsub.close()
        async with account(server, "node1") as by_hand:
            answer = await ask(by_hand, "get", stanzas.subscribers(node_of(prefix, "t")))
        assert stanzas.subscribers_of(answer) == []

    async def test_who_leaves_is_unsubscribed_on_the_server_too(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (pubsub, _), account(server, "node1") as by_hand:
            async with pubsub.subscribe("t"):
                pass
            async with asyncio.timeout(10):
                while stanzas.subscribers_of(await ask(by_hand, "get", stanzas.subscribers(node_of(prefix, "t")))):
                    await asyncio.sleep(0.02)


class TestSize:
    async def test_a_message_too_large_is_an_error_and_a_word_to_read_the_store(
        self, server: Server, prefix: str
    ) -> None:
        async with node(server, prefix) as (one, counters), node(server, prefix, "node2") as (two, _):
            async with two.subscribe("t") as subscription:
                with pytest.raises(BackendError, match="A message of 200000 bytes is too large for the XMPP server"):
                    await one.publish("t", bytes(200_000))
                assert await take(subscription, 1) == [RESYNC]
                await one.publish("t", b"x")
                assert await take(subscription, 1) == [b"x"]
        assert counters["limit_pubsub_stanza"] == 1

    async def test_a_server_that_takes_less_than_it_is_sent_costs_that_message_alone(
        self, server: Server, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        counters = Counters()
        options = f"nodes={NODES}&prefix={prefix}&stanza=600000"
        one = XmppPubSub(url(server.port, server.ca, "node1", options), counters, 10, 10, Pace(first_pause=0.05))
        async with node(server, prefix, "node2") as (two, _), two.subscribe("t") as subscription:
            await one.publish("t", bytes(400_000))
            assert await take(subscription, 1) == [RESYNC]
            await one.publish("t", b"x")
            assert await take(subscription, 1) == [b"x"]
        await one.close()
        assert counters["limit_pubsub_stanza"] == 1
        assert "takes no stanza of 600000 bytes; raise its limit" in caplog.text

    async def test_more_than_may_wait_becomes_a_word_to_read_the_store(self, server: Server, prefix: str) -> None:
        async with node(server, prefix) as (one, counters), node(server, prefix, "node2") as (two, _):
            async with two.subscribe("t") as subscription:
                for number in range(1500):
                    await one.publish("t", b"%d" % number)
                await one.settle()
                received = [await take(subscription, 1)]
                await one.publish("t", b"last")
                while received[-1] != [b"last"]:
                    received.append(await take(subscription, 1))
        assert [RESYNC] in received
        assert counters["limit_pubsub_outgoing"] == 1


class TestErrors:
    """One sentence each, the same from `check` and at the start."""

    async def test_a_wrong_password(self, server: Server) -> None:
        wrong = url(server.port, server.ca).replace("w%25rd", "wrong")
        said = await why_not(wrong)
        assert said.startswith("The XMPP server knows no account node1@school.example with this password; check both")
        pubsub = XmppPubSub(wrong, Counters(), 10, 10)
        with pytest.raises(BackendError) as caught:
            async with pubsub.subscribe("t"):
                pass
        assert str(caught.value) == said
        await pubsub.close()

    async def test_an_unknown_account(self, server: Server) -> None:
        said = await why_not(url(server.port, server.ca, "nobody"))
        assert "knows no account nobody@school.example" in said

    async def test_no_login_that_we_know(self, prosody: Prosody) -> None:
        said = await why_not(
            f"xmpp://node1:p@nologin.example:{prosody.port}?host=127.0.0.1&ca={prosody.folder}/nologin/ca.pem"
        )
        assert "offers no login with a password that we know; it must offer SCRAM-SHA-1" in said

    async def test_no_encryption(self, prosody: Prosody) -> None:
        said = await why_not(f"xmpp://node1:p@open.example:{prosody.port}?host=127.0.0.1")
        assert "offers no encryption (STARTTLS), so the password is not sent to it" in said

    async def test_a_certificate_of_an_unknown_authority(self, server: Server) -> None:
        said = await why_not(url(server.port, server.ca).replace(f"ca={server.ca}&", ""))
        assert "was not signed by an authority that this computer trusts; name your own one's" in said

    async def test_a_certificate_of_another_authority_than_the_named_one(self, server: Server, tmp_path: Path) -> None:
        said = await why_not(url(server.port, certificates(tmp_path)))
        assert "was not signed by an authority in the file that ca= names" in said

    async def test_an_expired_certificate(self, prosody: Prosody) -> None:
        said = await why_not(
            f"xmpp://node1:p@expired.example:{prosody.port}?host=127.0.0.1&ca={prosody.folder}/expired/ca.pem"
        )
        assert said == f"The certificate of the XMPP server at 127.0.0.1 port {prosody.port} has expired; renew it."

    async def test_a_certificate_for_another_name(self, prosody: Prosody) -> None:
        said = await why_not(
            f"xmpp://node1:p@renamed.example:{prosody.port}?host=127.0.0.1&ca={prosody.folder}/renamed/ca.pem"
        )
        assert "is for another name; it must name renamed.example" in said

    async def test_a_name_that_nobody_knows(self) -> None:
        said = await why_not("xmpp://node1:p@school.invalid:5222")
        assert said.startswith("The name school.invalid of the XMPP server is not known; check it in pubsub.url")

    async def test_a_host_that_nobody_knows(self) -> None:
        said = await why_not("xmpp://node1:p@school.example?host=xmpp.school.invalid")
        assert said.startswith("The name xmpp.school.invalid of the XMPP server is not known")

    async def test_a_port_where_nothing_listens(self, server: Server) -> None:
        port = free_port()
        said = await why_not(url(port, server.ca))
        assert said.startswith(f"No XMPP server listens at 127.0.0.1 port {port}; check that it runs")

    async def test_what_answers_nothing(self, server: Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            said = await why_not(url(silent.getsockname()[1], server.ca), connect=1.0)
        assert "does not answer as an XMPP server does within 1 seconds" in said

    async def test_a_domain_that_the_server_does_not_serve(self, server: Server) -> None:
        said = await why_not(url(server.port, server.ca).replace("school.example", "college.example"))
        assert "does not serve the domain college.example" in said

    @pytest.mark.parametrize("service", ["chat.school.example", "school.example"])
    async def test_no_pubsub_service(self, server: Server, service: str) -> None:
        said = await why_not(url(server.port, server.ca, options=f"service={service}"))
        assert said.startswith(f"There is no pubsub service at {service} (")

    async def test_an_account_that_may_not_make_topics(self, server: Server, prefix: str) -> None:
        said = await why_not(url(server.port, server.ca, "student", f"prefix={prefix}"))
        assert said.startswith("The account student@school.example may not make or use pubsub nodes")

    async def test_a_stanza_too_large_for_the_server(self, server: Server, prefix: str) -> None:
        said = await why_not(url(server.port, server.ca, options=f"prefix={prefix}&stanza=600000"))
        assert said.startswith("The XMPP server takes no stanza of 600000 bytes; raise its limit (Prosody: c2s_stanza")

    async def test_a_server_that_is_away_at_the_start_is_waited_for_in_the_background(
        self, server: Server, prefix: str
    ) -> None:
        pubsub = XmppPubSub(url(free_port(), server.ca), Counters(), 10, 10)
        async with pubsub.subscribe("t") as subscription:
            [found] = pubsub.findings()
            assert (found.code, found.severity) == ("pubsub.away", "error")
            assert "It is tried again." in found.text
            await pubsub.publish("t", b"here")
            assert await take(subscription, 1) == [b"here"], "this process receives its own messages nevertheless"
        await pubsub.close()


class TestCheck:
    async def test_a_server_that_is_well(self, server: Server, prefix: str, tmp_path: Path) -> None:
        from appliance.maintenance.check import check

        found: dict[str, Any] = {}
        settings = Settings(
            data_dir=str(tmp_path),
            pubsub=PubsubSettings(url=url(server.port, server.ca)),
        )
        await check(
            lambda: Configuration(settings, None, {}),
            lambda finding: found.__setitem__(finding.label.partition(" (")[0], finding),
        )
        said = {name: finding for name, finding in found.items() if name.startswith("pubsub")}
        assert set(said) == {
            "pubsub",
            "pubsub server",
            "pubsub encryption",
            "pubsub service",
            "pubsub stream management",
            "pubsub clock",
            "pubsub largest message",
        }
        assert [finding for finding in said.values() if finding.severity != "ok"] == []
        assert type(server).__name__.lower() in said["pubsub server"].label.lower()
        assert "TLSv1.3" in said["pubsub encryption"].label
        # Its topic is removed again; another one shows that all topics are listed.
        async with node(server, prefix) as (other, _), other.subscribe("t"), account(server, "node1") as by_hand:
            answer = await ask(by_hand, "get", Element("{http://jabber.org/protocol/disco#items}query"))
        names = [found.get("node", "") for found in answer.iter("{http://jabber.org/protocol/disco#items}item")]
        assert names != []
        assert [name for name in names if "/check/" in name] == []

    def test_the_command_says_what_is_wrong_without_the_password(self, prosody: Prosody, tmp_path: Path) -> None:
        wrong = url(prosody.port, prosody.ca, "student")
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "check", "--data-dir", str(tmp_path), "--port", "0", "--pubsub", wrong],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        [line] = [line for line in done.stdout.splitlines() if line.startswith("bad ")]
        assert "may not make or use pubsub nodes" in line
        assert PASSWORD not in done.stdout + done.stderr
        assert "p%40ss" not in done.stdout + done.stderr


def test_the_documented_accounts_are_those_of_the_tests() -> None:
    assert [*NODES.split(","), "student"] == list(ACCOUNTS)
