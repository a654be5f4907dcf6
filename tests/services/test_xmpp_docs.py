"""docs/xmpp.md quotes the sentences of the program."""

from __future__ import annotations

import ssl
from pathlib import Path

from appliance import config
from appliance.pubsub.xmpp import reasons
from appliance.pubsub.xmpp.url import OPTIONS, STANZA, parse_url
from tests.services.xmpp import DOCS
from tests.test_docs import code_blocks

URL = parse_url("xmpp://node1:PASSWORD@school.example?host=xmpp.school.example")


def certificate(code: int) -> str:
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return str(reasons.of_certificate(error, URL))


SENTENCES = {
    str(reasons.of_network("unknown", URL)),
    str(reasons.of_network(ConnectionRefusedError(), URL)),
    str(reasons.silent(8, URL)),
    str(reasons.no_login(False, URL)),
    str(reasons.of_certificate(ssl.SSLError(), URL)),
    certificate(reasons.EXPIRED),
    certificate(reasons.OTHER_NAME),
    certificate(20),
    str(reasons.of_stream("host-unknown", URL)),
    str(reasons.of_login("not-authorized", URL)),
    str(reasons.no_login(True, URL)),
    str(reasons.of_service("service-unavailable", URL)),
    str(reasons.of_node("forbidden", URL)),
    str(reasons.of_foreign_owners(["node4@school.example"], URL)),
    str(reasons.too_large(URL)),
}


def test_every_sentence_of_the_program_is_in_the_page() -> None:
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
    found = parse_url(config.load(file, {}, {}).pubsub.url)
    assert found.nodes == ("node1@school.example", "node2@school.example", "node3@school.example")
