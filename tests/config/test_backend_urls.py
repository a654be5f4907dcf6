"""Numbers of any length in the URL of a backend are refused in a short sentence."""

from __future__ import annotations

import pytest

from appliance.errors import SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:" + "9" * 5000,
        "redis://localhost/" + "9" * 5000,
        "redis://localhost/0?ttl=" + "9" * 5000,
        "redis+sentinel://localhost:" + "9" * 5000 + "/mymaster/0",
        "redis+cluster://a:1,b:" + "9" * 5000,
    ],
)
def test_numbers_with_thousands_of_digits_in_a_url_are_refused_in_a_short_sentence(url: str) -> None:
    from appliance.redis.url import parse_url

    with pytest.raises(SettingsError) as refused:
        parse_url(url, "kvs")
    assert len(str(refused.value)) < 200


def test_a_port_of_thousands_of_digits_for_xmpp_is_refused_in_a_short_sentence() -> None:
    from appliance.pubsub.xmpp.url import parse_url

    with pytest.raises(SettingsError) as refused:
        parse_url("xmpp://a:b@example.org:" + "9" * 5000)
    assert len(str(refused.value)) < 200
