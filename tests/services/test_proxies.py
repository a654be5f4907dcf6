"""nginx and HAProxy with the example configurations of packaging/proxy, in front of two real nodes."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import aiohttp
import pytest

from tests.launcher import PATIENCE
from tests.services.cluster import Cluster, Page, a_cluster, until
from tests.services.servers import RedisServer, ServerProcess, need

pytestmark = pytest.mark.services

EXAMPLES = Path(__file__).parents[2] / "packaging" / "proxy"
NAME = "observer.school.example"


class Proxy(ServerProcess):
    """A reverse proxy with the example configuration, in which only the ports are changed."""

    example = ""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        super().__init__(folder)
        self._ports = ports

    def configured(self) -> str:
        """The example with the test's ports."""
        text = (EXAMPLES / self.example).read_text(encoding="utf-8")
        for number, port in enumerate(self._ports, 1):
            assert f"127.0.0.1:800{number}" in text
            text = text.replace(f"127.0.0.1:800{number}", f"127.0.0.1:{port}")
        return text

    def answers(self) -> bool:
        request = Request(f"http://127.0.0.1:{self.port}/healthz", headers={"Host": NAME})
        with urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)


class Nginx(Proxy):
    example = "nginx.conf"

    def command(self) -> list[str]:
        program = need("nginx", "nginx-light")
        text = self.configured().replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        (self.folder / "site.conf").write_text(text, encoding="utf-8")
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = self.folder / "main.conf"
        file.write_text(
            f"daemon off; pid {self.folder}/pid; error_log stderr; worker_processes 1;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; {temporary} include {self.folder}/site.conf; }}\n",
            encoding="utf-8",
        )
        checked = subprocess.run([program, "-t", "-c", str(file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        return [program, "-c", str(file)]


class HAProxy(Proxy):
    example = "haproxy.cfg"

    def command(self) -> list[str]:
        program = need("haproxy", "haproxy")
        text = re.sub(r"(?m)^    bind :80$", f"    bind 127.0.0.1:{self.port}", self.configured())
        file = self.folder / "haproxy.cfg"
        file.write_text(text, encoding="utf-8")
        checked = subprocess.run([program, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        return [program, "-db", "-f", str(file)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


async def wrong_login(cluster: Cluster, port: int, source: str, claimed: str = "") -> int:
    """The status of a wrong login from an address of this machine."""
    headers = {"Host": NAME} | ({"X-Forwarded-For": claimed} if claimed else {})
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as client:
        url = f"http://127.0.0.1:{port}/api/v1/login"
        async with client.post(url, json={"token": "wrong"}, headers=headers) as answer:
            return answer.status


@pytest.mark.parametrize("kind", [Nginx, HAProxy])
async def test_a_class_works_through_a_proxy(
    tmp_path: Path, redis: RedisServer, chance: random.Random, kind: type[Proxy]
) -> None:
    options = {"CLASSROOM_OBSERVER_WEB__HOSTS": NAME, "CLASSROOM_OBSERVER_WEB__PROXIES": "127.0.0.1"}
    async with a_cluster(tmp_path, redis, chance, options=options) as cluster:
        with kind(tmp_path / "proxy", [node.port for node in cluster.nodes]) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            direct = await cluster.dashboard(0)
            joined = await cluster.join(0, "Ada")

            async def page() -> Page:
                socket = await cluster.client.ws_connect(f"{url}/ws/events", headers={"Host": NAME}, max_msg_size=0)
                page = Page(socket)
                cluster.pages.append(page)
                return await page.hello(joined["token"], stream)

            stream = str(uuid.uuid4())
            first = await page()
            await first.send(1, {"event": "edit", "document": "essay", "offset": 0, "insert": "Hello"})
            await until(lambda: first.acked() == 1, "it is acknowledged")
            await until(lambda: direct.events() == {joined["student_id"]: 1}, "the dashboard shows it")
            login = {"token": cluster.token}
            async with cluster.client.post(f"{url}/api/v1/login", json=login, headers={"Host": NAME}) as answer:
                assert answer.status == 204

            # The node that serves the page ends; the proxy forwards to the other one.
            cluster.nodes[0].kill()
            second: list[Page] = []

            async def again() -> bool:
                try:
                    second.append(await page())
                except aiohttp.ClientError:
                    return False
                return second[-1].closed is None

            async with asyncio.timeout(PATIENCE):
                while not await again():
                    await asyncio.sleep(0.02)
            assert second[-1].welcome["ack"] == 1

            # Attempts count for the client's address, not for the proxy's, nor for one that the client claims.
            for _ in range(12):
                status = await wrong_login(cluster, proxy.port, "127.0.0.2")
            assert status == 429
            assert await wrong_login(cluster, proxy.port, "127.0.0.2", "203.0.113.9") == 429
            assert await wrong_login(cluster, proxy.port, "127.0.0.3") == 401


def test_both_examples_name_what_websockets_need() -> None:
    nginx = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
    for needed in ("proxy_http_version 1.1", "Upgrade $http_upgrade", "Host $http_host", "proxy_buffering off"):
        assert needed in nginx
    haproxy = (EXAMPLES / "haproxy.cfg").read_text(encoding="utf-8")
    for needed in ("timeout tunnel", "option forwardfor", "X-Forwarded-Proto"):
        assert needed in haproxy
