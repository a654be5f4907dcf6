"""docs/xmpp.md shows the sentences that the program says."""

from __future__ import annotations

import ssl
from pathlib import Path

from appliance import config
from appliance.pubsub.xmpp import reasons
from appliance.pubsub.xmpp.address import OPTIONS, STANZA, parse
from tests.services.xmpp import DOCS
from tests.test_docs import code_blocks

ADDRESS = parse("xmpp://node1:PASSWORD@school.example?host=xmpp.school.example")


def certificate(code: int) -> str:
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return str(reasons.of_certificate(error, ADDRESS))


SENTENCES = {
    str(reasons.of_network("unknown", ADDRESS)),
    str(reasons.of_network(ConnectionRefusedError(), ADDRESS)),
    str(reasons.silent(8, ADDRESS)),
    str(reasons.no_login(False, ADDRESS)),
    str(reasons.of_certificate(ssl.SSLError(), ADDRESS)),
    certificate(reasons.EXPIRED),
    certificate(reasons.OTHER_NAME),
    certificate(20),
    str(reasons.of_stream("host-unknown", ADDRESS)),
    str(reasons.of_login("not-authorized", ADDRESS)),
    str(reasons.no_login(True, ADDRESS)),
    str(reasons.of_service("service-unavailable", ADDRESS)),
    str(reasons.of_node("forbidden", ADDRESS)),
    str(reasons.of_strangers(["node4@school.example"], ADDRESS)),
    str(reasons.too_large(ADDRESS)),
}


def test_every_sentence_stands_in_the_page_as_it_is_said() -> None:
    page = DOCS.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.count("|") == 3}
    assert SENTENCES - rows == set()


def test_every_option_of_the_url_is_explained() -> None:
    page = DOCS.read_text(encoding="utf-8")
    for option in OPTIONS:
        assert f"`{option}=" in page
    assert f"{STANZA} without it" in page


def test_its_example_can_be_read(tmp_path: Path) -> None:
    [example] = code_blocks("xmpp.md", "toml")
    file = tmp_path / "config.toml"
    file.write_text(example, encoding="utf-8")
    address = parse(config.load(file, {}, {}).pubsub.url)
    assert address.nodes == ("node1@school.example", "node2@school.example", "node3@school.example")
