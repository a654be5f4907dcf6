"""The join address follows the network, respects the educator's choice, and has a name in the local network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.network import announce
from appliance.network.addresses import NetworkAddress, rank, usable
from appliance.network.announce import Announcer
from appliance.network.network import Network, on_link
from tests.web.world import until

WIFI = NetworkAddress(0, "192.168.1.20", "wlan0", 24)
CABLE = NetworkAddress(1, "10.0.0.7", "eth0", 8)
DOCKER = NetworkAddress(101, "172.17.0.1", "docker0", 16)
SIX = NetworkAddress(11, "2001:db8::7", "eth0", 64)
LOOPBACK = NetworkAddress(0, "127.0.0.1", "lo", 8)


class Adapters:
    """Adapters that a test plugs in and out."""

    def __init__(self, *found: NetworkAddress) -> None:
        self.found = list(found)
        self.error: OSError | None = None
        self.reads = 0

    def __call__(self) -> list[NetworkAddress]:
        self.reads += 1
        if self.error:
            raise self.error
        return sorted(self.found)


def network(folder: Path, find: Callable[[], list[NetworkAddress]], **options: object) -> Network:
    given = {"host": "0.0.0.0", "port": 8000, "seconds": 0.01, **options}
    return Network(folder, Counters(), find=find, **given)  # type: ignore[arg-type]


def test_the_likeliest_address_comes_first() -> None:
    order = [
        rank("wlan0", "192.168.1.20", "192.168.1.20"),
        rank("eth0", "10.0.0.7", "192.168.1.20"),
        rank("eth0", "8.8.4.4"),
        rank("eth0", "169.254.3.4"),
        rank("docker0", "172.17.0.1"),
        rank("vEthernet (WSL)", "172.29.1.1"),
    ]
    assert order == sorted(order)
    assert rank("VirtualBox Host-Only Ethernet Adapter", "192.168.56.1") > rank("Wi-Fi", "169.254.3.4")


def test_a_computer_in_no_network_shows_its_own_address(tmp_path: Path) -> None:
    assert network(tmp_path, Adapters()).urls() == ["http://127.0.0.1:8000/join"]


def test_a_computer_with_ipv6_alone_shows_an_address_that_students_reach(tmp_path: Path) -> None:
    found = network(tmp_path, Adapters(*usable([SIX, DOCKER])), host="::")
    assert found.urls()[0] == "http://[2001:db8::7]:8000/join"
    only_four = network(tmp_path, Adapters(SIX), host="0.0.0.0")
    assert only_four.urls() == ["http://127.0.0.1:8000/join"], "nobody listens there"


def test_addresses_of_ipv6_are_shown_only_where_there_are_no_others() -> None:
    own = NetworkAddress(21, "169.254.3.4", "eth0", 16)
    assert usable([SIX, WIFI, DOCKER]) == [WIFI, DOCKER]
    assert usable([own, SIX]) == [SIX, own]
    assert usable([]) == []


def test_what_the_configuration_names_comes_before_what_is_found(tmp_path: Path) -> None:
    found = network(tmp_path, Adapters(WIFI), preferred="https://observer.school.example/")
    assert found.urls() == ["https://observer.school.example/join", "http://192.168.1.20:8000/join"]


def test_one_address_to_listen_on_is_the_only_one(tmp_path: Path) -> None:
    assert network(tmp_path, Adapters(WIFI), host="10.0.0.7").urls() == ["http://10.0.0.7:8000/join"]


def test_the_choice_is_kept_over_a_restart(tmp_path: Path) -> None:
    adapters = Adapters(WIFI, CABLE)
    found = network(tmp_path, adapters)
    assert found.urls()[0] == "http://192.168.1.20:8000/join"
    found.choose("http://10.0.0.7:8000/join")
    # A different port does not make a different address.
    again = network(tmp_path, adapters, port=8001)
    assert again.urls() == ["http://10.0.0.7:8001/join", "http://192.168.1.20:8001/join"]


def test_the_choice_follows_its_adapter_to_a_new_address(tmp_path: Path) -> None:
    adapters = Adapters(WIFI, CABLE)
    found = network(tmp_path, adapters)
    found.choose("http://10.0.0.7:8000/join")
    adapters.found = [WIFI, NetworkAddress(1, "10.0.9.9", "eth0", 8)]
    assert found.refresh()
    assert found.urls()[0] == "http://10.0.9.9:8000/join"
    adapters.found = [WIFI]
    assert found.refresh()
    assert found.urls() == ["http://192.168.1.20:8000/join"]


def test_an_address_that_is_not_ours_cannot_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="evil"):
        network(tmp_path, Adapters(WIFI)).choose("http://evil.example/join")


def test_a_damaged_memory_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "network.json").write_bytes(b"\xff{")
    assert network(tmp_path, Adapters(WIFI)).urls() == ["http://192.168.1.20:8000/join"]
    assert "cannot be read" in caplog.text


def test_a_choice_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    found = network(tmp_path / "gone", Adapters(WIFI, CABLE))
    with pytest.raises(SettingsError, match="cannot be written"):
        found.choose("http://10.0.0.7:8000/join")


async def test_a_new_network_is_noticed_and_reported(tmp_path: Path) -> None:
    adapters = Adapters(WIFI)
    found = network(tmp_path, adapters)
    seen: list[str] = []
    found.on_change.add(lambda: seen.append(found.urls()[0]))
    found.on_addresses.add(lambda: seen.append("addresses"))
    watching = asyncio.create_task(found.watch())
    await until(lambda: adapters.reads > 3)
    assert seen == []
    adapters.found = [CABLE]
    await until(lambda: seen)
    assert seen[:2] == ["http://10.0.0.7:8000/join", "addresses"]
    watching.cancel()


async def test_waking_up_is_noticed_although_the_address_is_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    adapters = Adapters(WIFI)
    found = network(tmp_path, adapters)
    woke = asyncio.Event()
    found.on_addresses.add(woke.set)
    wall = [1000.0]
    watching = asyncio.create_task(found.watch(clock=lambda: wall[0]))
    await until(lambda: adapters.reads > 3)
    assert not woke.is_set()
    wall[0] += 3600
    async with asyncio.timeout(10):
        await woke.wait()
    assert "asleep for about 3599 seconds" in caplog.text
    watching.cancel()


async def test_adapters_that_cannot_be_read_change_nothing(tmp_path: Path) -> None:
    adapters = Adapters(WIFI)
    found = network(tmp_path, adapters)
    adapters.error = OSError(1, "not permitted")
    assert not found.refresh()
    assert found.urls() == ["http://192.168.1.20:8000/join"]


def test_only_our_own_networks_are_on_the_link() -> None:
    assert on_link("192.168.1.99", [WIFI, CABLE])
    assert on_link("10.200.3.4", [WIFI, CABLE])
    assert not on_link("192.168.2.1", [WIFI, CABLE])
    assert not on_link("8.8.8.8", [WIFI])
    assert not on_link("fe80::1", [WIFI])
    assert not on_link("nonsense", [WIFI])


class TestAnnouncing:
    """Real multicast DNS, on the loopback interface alone."""

    @asynccontextmanager
    async def announcing(self, folder: Path) -> AsyncIterator[tuple[Network, Announcer, Counters]]:
        counters = Counters()
        found = network(folder, Adapters(), host="127.0.0.1")
        announcer = Announcer(found, counters, addresses=[LOOPBACK])
        task = asyncio.create_task(announcer.run(8000))
        try:
            await until(lambda: found.name)
            yield found, announcer, counters
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await announcer.close()

    async def resolved(self, name: str) -> list[str]:
        from zeroconf import AddressResolverIPv4
        from zeroconf.asyncio import AsyncZeroconf

        asking = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            resolver = AddressResolverIPv4(f"{name}.")
            await resolver.async_request(asking.zeroconf, 2000)
            return resolver.parsed_addresses()
        finally:
            await asking.async_close()

    @pytest.mark.slow
    async def test_the_name_leads_to_us_and_is_the_same_after_a_restart(self, tmp_path: Path) -> None:
        async with self.announcing(tmp_path) as (found, _, _):
            name = found.name
            assert found.name_url == f"http://{name}:8000/join"
            assert await self.resolved(name) == ["127.0.0.1"]
        assert found.name == ""
        assert network(tmp_path, Adapters()).wanted_name() == name.removesuffix(".local")

    @asynccontextmanager
    async def another(self, name: str) -> AsyncIterator[None]:
        """Another computer, which announces this name."""
        from zeroconf import ServiceInfo
        from zeroconf.asyncio import AsyncZeroconf

        other = AsyncZeroconf(interfaces=["127.0.0.1"])
        service = ServiceInfo(
            announce.SERVICE,
            f"Another {name}.{announce.SERVICE}",
            port=80,
            server=f"{name}.local.",
            addresses=[socket.inet_aton("127.0.0.9")],
        )
        try:
            await (await other.async_register_service(service))
            yield
        finally:
            await other.async_close()

    @pytest.mark.slow
    async def test_a_name_that_another_computer_has_is_given_up(self, tmp_path: Path) -> None:
        wanted = network(tmp_path, Adapters()).wanted_name()
        async with self.another(wanted), self.announcing(tmp_path) as (found, _, counters):
            assert found.name != f"{wanted}.local"
            assert counters["announce_conflicts"] == 1
            assert await self.resolved(found.name) == ["127.0.0.1"]

    @pytest.mark.slow
    async def test_a_name_that_another_computer_takes_later_is_given_up(self, tmp_path: Path) -> None:
        async with self.announcing(tmp_path) as (found, _, counters):
            first = found.name
            async with self.another(first.removesuffix(".local")):
                await until(lambda: found.name not in ("", first))
                assert counters["announce_conflicts"] == 1
                assert await self.resolved(found.name) == ["127.0.0.1"]
                assert await self.resolved(first) == ["127.0.0.9"]

    @pytest.mark.slow
    async def test_so_many_names_are_given_up_and_then_one_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from appliance.network.host_name import Claim

        async def taken(claim: Claim) -> bool:
            return True

        monkeypatch.setattr(Claim, "taken", taken)
        async with self.announcing(tmp_path) as (found, _, counters):
            assert counters["announce_conflicts"] == 5
            kept = found.name
            async with self.another(kept.removesuffix(".local")):
                assert set(await self.resolved(kept)) == {"127.0.0.1", "127.0.0.9"}
                assert found.name == kept

    @pytest.mark.slow
    async def test_questions_from_other_networks_are_not_answered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with self.announcing(tmp_path) as (found, _, counters):
            assert await self.resolved(found.name) == ["127.0.0.1"]
            assert counters["announce_refused"] == 0
            monkeypatch.setattr(announce, "on_link", lambda ip, addresses: False)
            assert await self.resolved(found.name) == []
            assert counters["announce_refused"] > 0

    async def test_a_failure_leaves_no_name_and_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        counters = Counters()
        found = network(tmp_path, Adapters(), host="127.0.0.1")

        def taken(**options: object) -> None:
            raise OSError(98, "Address already in use")

        monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", taken)
        announcer = Announcer(found, counters, addresses=[LOOPBACK])
        task = asyncio.create_task(announcer.run(8000))
        await until(lambda: counters["announce_failures"] == 1)
        assert found.name == ""
        assert "could not be announced" in caplog.text
        announcer.again()
        await until(lambda: counters["announce_failures"] == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await announcer.close()
