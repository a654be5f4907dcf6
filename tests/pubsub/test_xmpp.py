"""The parts of the XMPP pubsub that need no server: URLs, names of nodes, outgoing and received messages, XML."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import SettingsError
from appliance.pubsub.xmpp import stanzas
from appliance.pubsub.xmpp.inbox import PUBLISHERS, Arrival, Inbox
from appliance.pubsub.xmpp.nodes import LONGEST_NODE, node_of
from appliance.pubsub.xmpp.outbox import RESYNC_BATCH, Batch, Outbox, cost
from appliance.pubsub.xmpp.url import parse_url


class TestUrl:
    def test_a_short_one_says_all_that_is_needed(self) -> None:
        address = parse_url("xmpp://Node1:p%40ss%2F@School.example")
        assert (address.account, address.password, address.domain) == (
            "node1@school.example",
            "p@ss/",
            "school.example",
        )
        assert address.service == "pubsub.school.example"
        assert address.tls == "required"
        assert address.nodes == ("node1@school.example",)
        assert address.port is None

    def test_every_option_is_understood(self, tmp_path: Path) -> None:
        ca = tmp_path / "ca.pem"
        ca.touch()
        address = parse_url(
            f"xmpp://node1:p@school.example:5223?host=10.0.0.5&service=ps.school.example&tls=required&ca={ca}&prefix=North"
            "&nodes=node1,%20Node2,node3@other.example&stanza=50000"
        )
        assert address.host == "10.0.0.5"
        assert address.port == 5223
        assert address.service == "ps.school.example"
        assert address.ca == str(ca)
        assert address.prefix == "north"
        assert address.nodes == ("node1@school.example", "node2@school.example", "node3@other.example")
        assert address.stanza == 50_000

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("xmpp://school.example", "needs a user, a password and a domain"),
            ("xmpp://node1@school.example", "needs a user, a password and a domain"),
            ("xmpp://node1:hush@", "needs a user, a password and a domain"),
            ("xmpp://node1:hu/sh@school.example", "cannot be read|needs a user"),
            ("xmpp://node1:hush@school.example:999999", "cannot be read"),
            ("xmpp://node1:hush@school.example/room", "needs a user, a password and a domain"),
            ("xmpp://no%20de:hush@school.example", "a character that no XMPP address has"),
            ("xmpp://node1:hush@school.example?pubsub=x", "the option pubsub, which is none of host, service"),
            ("xmpp://node1:hush@school.example?tls=no", "tls=, which must be required or off"),
            ("xmpp://node1:hush@school.example?tls=off", "tls=off, which would show the password"),
            ("xmpp://node1:hush@school.example?tls=off&host=10.0.0.5", "tls=off, which would show the password"),
            ("xmpp://node1:hush@school.example?ca=/nowhere/ca.pem", "there is no such file"),
            ("xmpp://node1:hush@school.example?prefix=a/b", "a prefix= that is not 1 to 40 letters"),
            ("xmpp://node1:hush@school.example?nodes=a@b@c", "nodes=, which must be names of accounts"),
            ("xmpp://node1:hush@school.example?stanza=9999", "a number of bytes, 10000 or more"),
        ],
    )
    def test_what_cannot_be_used_is_said_in_a_sentence_without_the_password(self, url: str, said: str) -> None:
        with pytest.raises(SettingsError, match=said) as caught:
            parse_url(url)
        assert re.fullmatch(r"pubsub\.url [^\n]*\.", str(caught.value))
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    def test_no_encryption_is_possible_on_this_computer(self, host: str) -> None:
        assert parse_url(f"xmpp://node1:p@school.example?tls=off&host={host}").tls == "off"

    def test_the_password_is_not_in_its_repr(self) -> None:
        assert "hush" not in repr(parse_url("xmpp://node1:hush@school.example"))


class TestNodes:
    def test_plain_topics_stay_readable(self) -> None:
        assert node_of("observer", "class/period-3") == "observer/class/period-3"

    def test_capitals_and_other_letters_are_escaped(self) -> None:
        assert node_of("observer", "class/A=ü") == "observer/class/=41=3d=c3=bc"

    @given(st.text(max_size=300), st.text(max_size=300))
    def test_each_topic_has_a_safe_node_of_its_own(self, one: str, other: str) -> None:
        for topic in (one, other, one + "x" * 300):
            node = node_of("observer", topic)
            assert len(node) <= LONGEST_NODE
            assert re.fullmatch(r"[a-z0-9._/=-]+", node)
        assert (node_of("observer", one) == node_of("observer", other)) == (one == other)

    def test_long_topics_that_differ_at_the_end_differ(self) -> None:
        long = "x" * 500
        assert node_of("observer", long + "a") != node_of("observer", long + "b")


class TestOutbox:
    def test_messages_leave_in_order_and_as_many_together_as_fit(self) -> None:
        outbox = Outbox(100, 3 * cost(b"xx"))
        for number in range(5):
            outbox.put("a", b"%02d" % number)
        outbox.put("b", b"xx")
        assert outbox.take("a") == Batch((b"00", b"01", b"02"))
        assert outbox.take("a") == Batch((b"03", b"04"))
        assert outbox.take("a") is None
        assert len(outbox) == 1

    def test_the_largest_message_fits_and_is_alone(self) -> None:
        outbox = Outbox(100, 1000)
        outbox.put("a", bytes(outbox.largest))
        outbox.put("a", b"")
        assert outbox.take("a") == Batch((bytes(outbox.largest),))
        assert cost(bytes(outbox.largest)) <= 1000 < cost(bytes(outbox.largest + 1))

    def test_one_too_many_turns_its_topic_into_one_resync_and_leaves_others(self) -> None:
        outbox = Outbox(3, 1000)
        assert outbox.put("b", b"1")
        assert outbox.put("a", b"1")
        assert outbox.put("a", b"2")
        assert not outbox.put("a", b"3")
        assert outbox.put("a", b"4"), "the word to read the store again covers it"
        assert outbox.take("a") is RESYNC_BATCH
        assert "a" not in outbox
        assert outbox.take("b") == Batch((b"1",))
        assert len(outbox) == 0


class TestInbox:
    def test_what_comes_twice_is_known(self) -> None:
        inbox = Inbox()
        assert [inbox.record("a", "p", number) for number in (7, 8, 8, 7, 9)] == [
            Arrival.NEXT,
            Arrival.NEXT,
            Arrival.AGAIN,
            Arrival.AGAIN,
            Arrival.NEXT,
        ]

    def test_a_gap_is_known_but_not_across_sessions(self) -> None:
        inbox = Inbox()
        inbox.record("a", "p", 1)
        assert inbox.record("a", "p", 3) is Arrival.GAP
        inbox.new_session()
        assert inbox.record("a", "p", 9) is Arrival.NEXT
        assert inbox.record("a", "p", 9) is Arrival.AGAIN
        assert inbox.record("a", "p", 11) is Arrival.GAP

    def test_publishers_and_topics_count_by_themselves(self) -> None:
        inbox = Inbox()
        inbox.record("a", "p", 5)
        assert inbox.record("a", "q", 1) is Arrival.NEXT
        assert inbox.record("b", "p", 1) is Arrival.NEXT
        assert inbox.last("a", "p") == 5
        inbox.forget("a")
        assert inbox.last("a", "p") == 0

    def test_it_remembers_a_bounded_number_of_publishers(self) -> None:
        inbox = Inbox()
        for number in range(PUBLISHERS + 1):
            inbox.record("a", str(number), 5)
        assert inbox.last("a", "0") == 0
        assert inbox.last("a", "1") == 5


class TestStanzas:
    def event(self, payload: str) -> list[stanzas.Publication]:
        text = (
            f"<message xmlns='jabber:client'><event xmlns='{stanzas.EVENT}'><items node='n'><item>{payload}</item>"
            "</items></event></message>"
        )
        return list(stanzas.publications(fromstring(text)))

    @given(st.lists(st.binary()))
    def test_messages_come_back_as_they_were(self, messages: list[bytes]) -> None:
        hints = stanzas.Publication("n", "p", 7, tuple(messages))
        payload = stanzas.publish(hints).find(f".//{{{stanzas.HINTS}}}hints")
        assert payload is not None
        assert self.event(tostring(payload, encoding="unicode")) == [hints]

    @pytest.mark.parametrize(
        "payload",
        [
            "",
            "<other xmlns='urn:x'/>",
            f"<hints xmlns='{stanzas.HINTS}' from='p'/>",
            f"<hints xmlns='{stanzas.HINTS}' from='p' number='x'/>",
            f"<hints xmlns='{stanzas.HINTS}' from='p' number='1'>not base64!</hints>",
            f"<hints xmlns='{stanzas.HINTS}' from='p' number='1'>AAAA</hints>",
        ],
    )
    def test_what_is_not_ours_is_left_out(self, payload: str) -> None:
        assert self.event(payload) == []
