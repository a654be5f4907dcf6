"""The embedded store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.errors import SettingsError
from appliance.kvs import KVS, Change, open_kvs
from tests.contract.kvs import KVSContract


class TestMemoryKVS(KVSContract):
    @pytest.fixture
    async def kvs(self) -> AsyncIterator[KVS]:
        kvs = open_kvs("memory://")
        yield kvs
        await kvs.close()

    async def test_a_value_is_encoded_only_when_it_is_read(self, kvs: KVS) -> None:
        class Costly:
            encoded = 0

            def encode(self) -> bytes:
                Costly.encoded += 1
                return b"x"

        for version in range(3):
            await kvs.commit([Change("a", version, {"state/": Costly(), "summary/": Costly()})])
        assert Costly.encoded == 0
        await kvs.read(["a"], "summary/")
        assert Costly.encoded == 1


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="'memcached' is not a key-value store"):
        open_kvs("memcached://127.0.0.1")
