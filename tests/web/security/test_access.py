"""Access: by token, session or link, under which host name, from pages of which site."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from appliance.web import routes
from appliance.web.security import Permission
from tests.web.world import PATIENCE, World, world

EDUCATOR_ROUTES = [
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/tasks"),
    ("GET", "/api/v1/students"),
    ("GET", "/api/v1/students/s-ada"),
    ("POST", "/api/v1/students/s-ada/remove"),
    ("GET", "/api/v1/classes"),
    ("GET", "/api/v1/classes/class-1/qr.svg"),
    ("POST", "/api/v1/class/pause"),
    ("POST", "/api/v1/class/resume"),
    ("POST", "/api/v1/class/message"),
    ("POST", "/api/v1/class/change"),
    ("POST", "/api/v1/class/remove-idle"),
    ("POST", "/api/v1/address"),
    ("POST", "/api/v1/stop"),
    ("GET", "/api/v1/licences"),
    ("POST", "/api/v1/logout"),
    ("GET", "/ws/dashboard"),
]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def status(w: World, method: str, path: str, **options: object) -> tuple[int, str]:
    """Status and error code of a request without any credentials but those given."""
    async with w.client.request(method, w.url + path, allow_redirects=False, **options) as answer:  # type: ignore[arg-type]
        text = await answer.text()
        refused = answer.status >= 400 and answer.content_type == "application/json"
        return answer.status, json.loads(text)["error"]["code"] if refused else ""


async def signed_in(w: World) -> aiohttp.ClientSession:
    """A browser that opened the dashboard with the program's link."""
    browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
    async with browser.get((await w.node.ready()).dashboard_url) as page:
        assert (page.status, page.url.path, page.url.query_string) == (200, "/", "")
    return browser


async def test_an_application_with_a_route_without_permission_does_not_start() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    def declared(application: web.Application) -> None:
        routes.Routes(application).add("GET", "/a", handler, Permission.ANYONE)

    def added(application: web.Application) -> None:
        application.router.add_route("POST", "/a", handler)

    def implicit_head(application: web.Application) -> None:
        application.router.add_get("/b", handler)

    def static(application: web.Application) -> None:
        application.router.add_static("/files", Path(__file__).parent)

    def inner(application: web.Application) -> None:
        other = web.Application()
        other.router.add_get("/c", handler, allow_head=False)
        application.add_subapp("/inner", other)

    for more, expected in ((added, "POST /a"), (implicit_head, "/b"), (static, "/files"), (inner, "GET /inner/c")):
        application = web.Application()
        declared(application)
        more(application)
        with pytest.raises(RuntimeError, match=expected):
            await web.AppRunner(application).setup()
    application = web.Application()
    declared(application)
    runner = web.AppRunner(application)
    await runner.setup()
    await runner.cleanup()


@pytest.mark.parametrize(("method", "path"), EDUCATOR_ROUTES)
async def test_educator_routes_are_shut_to_all_others(tmp_path: Path, method: str, path: str) -> None:
    async with world(tmp_path) as w:
        student = (await w.join())["token"]
        more = UPGRADE if path.startswith("/ws") else {"Content-Type": "application/json"}
        assert await status(w, method, path, headers=more) == (401, "sign_in")
        shown = {
            "a student's token": f"Bearer {student}",
            "a wrong token": "Bearer nonsense",
            "an empty token": "Bearer ",
            "another scheme": f"Basic {w.node.credentials.educator_token}",
        }
        for authorization in shown.values():
            headers = {"Authorization": authorization, **more}
            assert await status(w, method, path, headers=headers) == (403, "not_an_educator")
        forged = {"Cookie": f"classroom_observer_{w.node.port}=9999999999.x.0123", **more}
        assert await status(w, method, path, headers=forged) == (401, "sign_in")


async def test_the_link_works_once_and_leaves_the_address_bar(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        link = (await w.node.ready()).dashboard_url
        async with w.client.get(link, allow_redirects=False) as first:
            assert (first.status, first.headers["Location"]) == (303, "/")
            cookie = first.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert "Path=/" in cookie
        async with aiohttp.ClientSession() as other, other.get(link, allow_redirects=False) as second:
            assert second.status == 410
            assert "used already" in await second.text()
            assert "Set-Cookie" not in second.headers


async def test_a_browser_that_loads_a_link_in_advance_does_not_use_it_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        link = (await w.node.ready()).dashboard_url
        for name, value in (("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")):
            async with w.client.get(link, allow_redirects=False, headers={name: value}) as early:
                assert early.status == 503
                assert "Set-Cookie" not in early.headers
        async with w.client.get(link, allow_redirects=False) as opened:
            assert opened.status == 303


async def test_of_many_links_the_newest_are_valid_and_the_others_count_as_used(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        links = [w.node.launch_url() for _ in range(21)]
        for link, expected in ((links[0], 410), (links[1], 303)):
            async with aiohttp.ClientSession() as browser, browser.get(link, allow_redirects=False) as answer:
                assert answer.status == expected


@pytest.mark.parametrize("token", ["", "x", "x" * 5000, "%00", "%F0%9F%98%80"])
async def test_a_link_that_was_never_made_opens_nothing(tmp_path: Path, token: str) -> None:
    async with world(tmp_path) as w, w.client.get(f"{w.url}/?token={token}", allow_redirects=False) as answer:
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_the_educator_token_does_not_work_as_a_link(tmp_path: Path) -> None:
    """The token must never be in an address bar, a history or a log."""
    async with world(tmp_path) as w:
        assert (await status(w, "GET", f"/?token={w.node.credentials.educator_token}"))[0] == 403


async def test_a_session_opens_routes_and_sockets_until_it_is_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as w, await signed_in(w) as browser:
        async with browser.get(f"{w.url}/api/v1/students") as answer:
            assert answer.status == 200
        async with browser.ws_connect(f"{w.url}/ws/dashboard", origin=w.url) as socket:
            assert (await socket.receive_json(timeout=PATIENCE))["type"] == "snapshot"
        async with browser.post(f"{w.url}/api/v1/logout", json={}) as answer:
            assert answer.status == 204
        async with browser.get(f"{w.url}/api/v1/students") as answer:
            assert answer.status == 401


async def test_signing_in_by_token(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        token = w.node.credentials.educator_token
        async with w.client.post(f"{w.url}/api/v1/login", json={"token": f" {token}\n"}) as answer:
            assert answer.status == 204
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert (await status(w, "GET", "/api/v1/students", headers={"Cookie": cookie}))[0] == 200
        as_form = {"data": json.dumps({"token": token}), "headers": {"Content-Type": "text/plain"}}
        assert await status(w, "POST", "/api/v1/login", **as_form) == (415, "not_json")


async def test_guessing_the_token_is_slowed_down(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"login_tries": 3}) as w:
        for _ in range(3):
            assert await status(w, "POST", "/api/v1/login", json={"token": "guess"}) == (401, "bad_token")
        right = {"token": w.node.credentials.educator_token}
        async with w.client.post(f"{w.url}/api/v1/login", json=right) as answer:
            assert answer.status == 429
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            assert "Wait" in (await answer.json())["error"]["message"]
        assert w.node.counters["limit_login_tries"] == 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "10.11.12.13", "", "a b", "user@localhost", "localhost:80:80", "[::"],
)
@pytest.mark.parametrize("path", ["/join", "/api/v1/students", "/ws/events", "/ws/dashboard", "/healthz"])
async def test_a_foreign_host_name_is_refused(tmp_path: Path, host: str, path: str) -> None:
    """A page that points a name of its own at this machine (DNS rebinding) shows that name as Host."""
    async with world(tmp_path) as w:
        found = await status(w, "GET", path, headers={"Host": host, **w.educator})
        assert found in ((421, "unknown_host"), (400, ""))
        assert found[0] == 421 or not host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST", "localhost.", "classroom.test"])
async def test_its_own_names_are_answered(tmp_path: Path, host: str) -> None:
    async with world(tmp_path, web={"hosts": ["classroom.test"]}) as w:
        assert (await status(w, "GET", "/healthz", headers={"Host": f"{host}:{w.node.port}"}))[0] == 200


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://localhost", "file://", "", "https://localhost.evil"]
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/ws/dashboard"), ("GET", "/ws/events"), ("POST", "/api/v1/class/pause")]
)
async def test_a_foreign_page_is_refused_though_the_browser_holds_a_session(
    tmp_path: Path, origin: str, method: str, path: str
) -> None:
    async with world(tmp_path) as w:
        headers = {"Origin": origin, "Content-Type": "application/json", **w.educator}
        headers |= UPGRADE if path.startswith("/ws") else {}
        assert await status(w, method, path, headers=headers) == (403, "foreign_origin")


async def test_a_site_that_the_configuration_names_may_join_and_stream_and_nothing_else(tmp_path: Path) -> None:
    site = "https://quiz.example"
    async with world(tmp_path, web={"origins": [site]}) as w:
        body = {"code": await w.code(), "name": "Ada"}
        async with w.client.post(f"{w.url}/api/v1/join", json=body, headers={"Origin": site}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == site
            token = (await answer.json())["token"]
        asked = {"Origin": site, "Access-Control-Request-Method": "POST"}
        async with w.client.options(f"{w.url}/api/v1/join", headers=asked) as answer:
            assert answer.status == 204
            assert "content-type" in answer.headers["Access-Control-Allow-Headers"]
        async with w.connect(origin=site) as student:
            assert (await student.hello(token))["type"] == "welcome"
        async with w.client.get(f"{w.url}/api/v1/students", headers={"Origin": site, **w.educator}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Access-Control-Allow-Credentials" not in answer.headers
        asked["Origin"] = "https://other.example"
        async with w.client.options(f"{w.url}/api/v1/join", headers=asked) as answer:
            assert answer.status == 403


async def test_a_change_must_be_json_by_its_content_type(tmp_path: Path) -> None:
    """A foreign form can send text/plain with a browser's cookies, and never JSON."""
    async with world(tmp_path) as w:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            headers = {"Content-Type": kind, **w.educator}
            found = await status(w, "POST", "/api/v1/class/pause", data=b"{}", headers=headers)
            assert found == (415, "not_json")


@pytest.mark.parametrize(
    "path", ["/", "/join", "/write", "/login", "/setup", "/static/shared/app.css", "/client.js", "/healthz", "/x"]
)
async def test_every_answer_forbids_what_no_page_needs(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as w, w.client.get(w.url + path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["../run.py", "..%2frun.py", "%2e%2e/run.py", "/etc/passwd", "%00", "__init__.py", "."]
)
async def test_no_path_leads_out_of_the_pages_folder(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.node.port)
        writer.write(f"GET /static/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.split(b" ", 2)[1] in (b"404", b"400")
        assert b"import" not in answer


async def test_an_error_holds_no_path_no_trace_and_nothing_of_a_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:

        async def broken(*arguments: object) -> None:
            raise RuntimeError("Ada L. wrote a secret in /home/ada")

        monkeypatch.setattr(w.node.roster, "classes", broken)
        assert await status(w, "GET", "/api/v1/students", headers=w.educator) == (500, "internal")
        monkeypatch.undo()
    assert "secret" not in caplog.text
    assert "RuntimeError in broken()" in caplog.text


async def test_names_travel_as_json_and_never_as_markup(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    async with world(tmp_path) as w:
        await w.join(name)
        async with w.client.get(f"{w.url}/api/v1/students", headers=w.educator) as answer:
            assert answer.content_type == "application/json"
            assert (await answer.json())[0]["name"] == name
        async with await signed_in(w) as browser, browser.get(w.url) as page:
            assert "onerror" not in await page.text()


async def test_no_page_has_inline_script_or_style_or_a_foreign_address() -> None:
    webui = Path(__file__).parents[3] / "webui"
    pages = list(webui.rglob("*.html"))
    assert {page.stem for page in pages} >= {"dashboard", "join", "write", "login", "setup", "welcome"}
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), page.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), page.name
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text), page.name


async def test_half_an_emoji_in_a_name_becomes_a_replacement_character(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.join("Ada \ud83d"))["name"] == "Ada \ufffd"
        class_id = (await w.node.roster.classes())[0].class_id
        changed = await w.post("/api/v1/class/change", {"class_id": class_id, "title": "7a \ude00 \U0001f600"})
        assert changed["title"] == "7a \ufffd \U0001f600"
        async with w.student("Ben") as student:
            await w.post("/api/v1/class/message", {"text": "Well done \ud83d"})
            assert (await student.receive_type("message"))["text"] == "Well done \ufffd"
