"""``GET /metrics``: the metrics of a class at work, and who may read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.metrics import PREFIX
from tests.web.world import World, until, world

TOKEN = "scraper-0123456789-abcdef"
ELSEWHERE = {"X-Forwarded-For": "192.168.1.9"}


async def read(w: World, **headers: str) -> tuple[int, str]:
    """Status and content of ``/metrics`` for a request with these headers."""
    async with w.client.get(f"{w.url}/metrics", headers=headers) as answer:
        return answer.status, await answer.text()


async def value(w: World, name: str) -> float:
    """The value of one sample."""
    status, text = await read(w)
    assert status == 200
    [found] = re.findall(rf"(?m)^{re.escape(PREFIX + name)} (\S+)$", text)
    return float(found)


class TestWho:
    async def test_this_computer_and_educators(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            assert (await read(w))[0] == 200
            assert (await read(w, **ELSEWHERE, **w.educator))[0] == 200

    async def test_nobody_else(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            token = (await w.join())["token"]
            for authorization, expected in ((None, 401), (f"Bearer {token}", 403), ("Bearer", 403), ("Bearer é", 403)):
                headers = {"Authorization": authorization} if authorization else {}
                status, text = await read(w, **ELSEWHERE, **headers)
                assert status == expected
                assert PREFIX not in text
            assert await value(w, 'requests_refused_total{rule="metrics"}') == 4

    async def test_a_scraper_with_its_token_reads_metrics_and_nothing_else(self, tmp_path: Path) -> None:
        async with world(tmp_path, metrics={"token": TOKEN}) as w:
            shown = {**ELSEWHERE, "Authorization": f"Bearer {TOKEN}"}
            status, text = await read(w, **shown)
            assert (status, TOKEN in text) == (200, False)
            assert (await read(w, **ELSEWHERE, Authorization=f"Bearer {TOKEN[:-1]}"))[0] == 403
            for path in ("/api/v1/students", "/api/v1/status"):
                async with w.client.get(w.url + path, headers=shown) as answer:
                    assert answer.status == 403

    async def test_an_empty_token_lets_nobody_in(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            assert (await read(w, **ELSEWHERE, Authorization="Bearer "))[0] == 403

    @pytest.mark.parametrize("chain", ["192.168.1.9", "127.0.0.1, 192.168.1.9", "nonsense", ""])
    async def test_a_forwarded_request_does_not_count_as_local(self, tmp_path: Path, chain: str) -> None:
        async with world(tmp_path, web={"proxies": ("127.0.0.1",)}) as w:
            assert (await read(w, **{"X-Forwarded-For": chain}))[0] == 401
            assert (await read(w, **{"X-Forwarded-For": chain}, **w.educator))[0] == 200

    async def test_a_silently_forwarded_request_does_not_count_as_local(self, tmp_path: Path) -> None:
        async with world(tmp_path, web={"proxies": ("127.0.0.1",)}) as w:
            assert (await read(w))[0] == 401

    async def test_a_foreign_page_reads_nothing(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            assert (await read(w, Origin="https://evil.example"))[0] == 403
            assert (await read(w, Host="evil.example"))[0] == 421


class TestWhat:
    async def test_openmetrics_is_sent_if_accepted_and_no_cache_keeps_either(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            for accept, kind in (("application/openmetrics-text;version=x", "openmetrics-text"), ("*/*", "text/plain")):
                async with w.client.get(f"{w.url}/metrics", headers={"Accept": accept}) as answer:
                    text = await answer.text()
                    assert kind in answer.headers["Content-Type"]
                    assert answer.headers["Cache-Control"] == "no-store"
                    assert text.endswith("# EOF\n") == (kind == "openmetrics-text")

    async def test_a_reader_of_metrics_never_sees_an_error_of_a_source(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:

            def broken() -> None:
                raise RuntimeError("Ada L.")

            w.node.metrics.sources.students = broken  # type: ignore[assignment]
            status, text = await read(w)
            assert (status, "Ada" in text) == (200, False)
            assert await value(w, "metrics_failures_total") == 2

    async def test_a_class_at_work(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w, w.student("Ada Lovelace") as ada, w.dashboard() as dashboard:
            assert (await dashboard.receive_json())["type"] == "snapshot"
            async with w.connect():
                await until(lambda: w.node.web.connections()["stranger"] == 1)
                assert await value(w, 'connections{kind="stranger"}') == 1
            await ada.send({"event": "a"}, {"event": "b"}, {"no": "name"})
            await ada.acked(3)
            await ada.send({"event": "a"}, {"event": "b"}, first=2)
            await ada.send({"event": "c"}, first=4)
            await ada.acked(4)
            await ada.socket.send_str("nonsense")
            await ada.receive_type("error")
            while (await dashboard.receive_json())["type"] != "update":
                pass
            expected = {
                'connections{kind="student"}': 1,
                'connections{kind="dashboard"}': 1,
                "students_online": 1,
                "events_received_total": 4,
                "events_applied_total": 4,
                "events_duplicate_total": 2,
                'events_rejected_total{code="no_event_name"}': 1,
                "frames_received_total": 3,
                'frames_refused_total{code="not_json"}': 1,
                'archive_errors_total{operation="sync"}': 0,
                'dashboard_frames_total{type="snapshot"}': 1,
                "waiting_bytes": 0,
                "waiting_limit_bytes": 67108864,
            }
            assert {name: await value(w, name) for name in expected} == expected
            for name in ('kvs_seconds_count{operation="commit"}', 'archive_seconds_count{operation="sync"}'):
                assert await value(w, name) >= 1
            await until(lambda: w.node.upkeep.space)
            assert await value(w, "disk_free_bytes") > 0
            _, text = await read(w)
            for secret in ("Ada", "Lovelace", *w.node.pipeline.students(), w.node.credentials.educator_token):
                assert secret not in text
            assert re.search(r"(?m)^process_resident_memory_bytes \d", text)
            assert re.search(r"(?m)^process_max_fds \d", text)

    async def test_reading_waits_for_no_backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with world(tmp_path) as w:

            def fail(*_: object, **__: object) -> None:
                raise AssertionError("a backend was asked")

            for backend in (w.node.kvs, w.node.pubsub, w.node.roster, w.node.archive):
                for name in [name for name in dir(type(backend)) if not name.startswith("_")]:
                    if callable(getattr(backend, name)) and name not in ("close", "sync", "forget"):
                        monkeypatch.setattr(backend, name, fail)
            assert (await read(w))[0] == 200
            monkeypatch.undo()
