"""The routes of lists: preview, import, what watched lists ask, export; and students who leave a list."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.web.educators.multipart import parts_of
from tests.roster.list_fixtures import FOLDER
from tests.roster.test_import_oneroster import FIRST
from tests.web.world import World, until, world

LIST = "id;Name;Vorname;Klasse\n1;Löve;Ada;7a\n2;Ek;Bo;7a\n"
PREVIEW, IMPORT, QUESTIONS = "/api/v1/roster/preview", "/api/v1/roster/import", "/api/v1/roster/questions"
EXPORT = "/api/v1/roster/export"


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("appliance.roster.watch.CHECK_SECONDS", 0)
    async with world(tmp_path, limits={"roster_previews": 2}) as found:
        yield found


async def upload(app: World, content: bytes, name: str = "list.csv", **options: object) -> tuple[int, Any]:
    form = aiohttp.FormData()
    form.add_field("options", json.dumps(options))
    form.add_field("file", io.BytesIO(content), filename=name, content_type="application/octet-stream")
    async with app.client.post(app.url + PREVIEW, headers=app.educator, data=form) as answer:
        return answer.status, await answer.json()


async def send(app: World, path: str, body: object) -> tuple[int, Any]:
    async with app.client.post(app.url + path, headers=app.educator, json=body) as answer:
        return answer.status, await answer.json()


async def students(app: World) -> list[str]:
    return sorted(student["name"] for student in await app.get("/api/v1/students"))


async def test_a_file_is_previewed_imported_and_exported(app: World) -> None:
    status, preview = await upload(app, LIST.encode("cp1252"))
    assert status == 200
    assert preview["counts"] == {"class_added": 1, "added": 2}
    assert preview["encoding"] == "cp1252"
    assert [question["key"] for question in preview["questions"]] == ["encoding"]
    assert [column["meaning"] for column in preview["columns"]] == ["id", "family", "given", "class"]
    assert preview["items"][1]["name"] == "Ada Löve"
    assert await students(app) == []
    status, refused = await send(app, IMPORT, {"preview": preview["preview"]})
    assert (status, refused["error"]["code"]) == (409, "unanswered")
    done = await app.post(IMPORT, {"preview": preview["preview"], "answered": ["encoding"]})
    assert done["counts"] == {"class_added": 1, "added": 2}
    assert await students(app) == ["Ada Löve", "Bo Ek"]
    assert (await send(app, IMPORT, {"preview": preview["preview"]}))[0] == 404
    async with app.client.get(app.url + EXPORT, headers=app.educator) as answer:
        assert (await answer.read()).decode("cp1252") == LIST.replace("1;L", "1;L").replace(
            "2;Ek;Bo;7a\n", "2;Ek;Bo;7a\n"
        )
        assert answer.headers["Content-Disposition"] == 'attachment; filename="list.csv"'


async def test_a_zip_and_its_export(app: World) -> None:
    _, preview = await upload(app, FIRST, "export.zip")
    await app.post(IMPORT, {"preview": preview["preview"]})
    for kind in ("oneroster-1.2", "oneroster-1.1", "as-imported"):
        async with app.client.get(app.url + EXPORT, headers=app.educator, params={"format": kind}) as answer:
            assert answer.content_type == "application/zip"
            names = zipfile.ZipFile(io.BytesIO(await answer.read())).namelist()
            assert "enrollments.csv" in names
    status, again = await upload(app, FIRST, "export.zip")
    assert (status, again["counts"]) == (200, {})
    async with app.client.get(
        app.url + EXPORT, headers=app.educator, params={"format": "csv", "class_id": "c2"}
    ) as answer:
        assert "Ada Ek" in await answer.text()


async def test_pasted_names_and_another_way_to_read_them(app: World) -> None:
    status, preview = await send(app, PREVIEW, {"name": "Pasted", "text": "1. Lovelace, Ada\n2. Ek, Bo"})
    assert status == 200
    assert [question["key"] for question in preview["questions"]] == ["no_headings"]
    status, again = await send(app, PREVIEW, {"preview": preview["preview"], "classes": ["9c"], "scope": "origin"})
    assert again["preview"] == preview["preview"]
    assert again["items"][0]["class_title"] == "9c"
    await app.post(IMPORT, {"preview": again["preview"], "answered": ["no_headings"]})
    assert await students(app) == ["Ada Lovelace", "Bo Ek"]


async def test_what_cannot_be_read_is_a_sentence(app: World) -> None:
    for content, name, what in (
        (b"", "a.csv", "is empty"),
        (FIRST[:100], "a.zip", "not a zip file"),
        (b"\xd0\xcf\x11\xe0\xa1", "a.xls", "Save it as CSV"),
    ):
        status, answer = await upload(app, content, name)
        assert (status, answer["error"]["code"]) == (400, "bad_list")
        assert what in answer["error"]["message"]
    status, answer = await upload(app, LIST.encode(), encoding="klingon")
    assert (status, "encoding is unknown" in answer["error"]["message"]) == (400, True)
    status, answer = await upload(app, LIST.encode(), columns={"shoe": "id"})
    assert status == 400
    for body in ({"text": 5}, {"name": "x"}, [], {"preview": "none"}, {"text": "x", "scope": "everybody"}):
        assert (await send(app, PREVIEW, body))[0] in (400, 404)
    async with app.client.get(app.url + EXPORT, headers=app.educator, params={"format": "doc"}) as answer:
        assert answer.status == 400
    async with app.client.get(app.url + EXPORT, headers=app.educator, params={"class_id": "none"}) as answer:
        assert answer.status == 404


async def test_a_list_that_is_too_large_and_previews_that_are_too_many(app: World) -> None:
    status, answer = await upload(app, b"name\n" + b"x" * (10 * 1024 * 1024))
    assert (status, answer["error"]["code"]) == (400, "bad_list")
    status, answer = await upload(app, b"x" * (11 * 1024 * 1024))
    assert status == 413
    previews = [(await upload(app, LIST.encode()))[1]["preview"] for _ in range(3)]
    assert (await send(app, IMPORT, {"preview": previews[0]}))[0] == 404
    assert (await send(app, IMPORT, {"preview": previews[2]}))[0] == 200
    assert app.node.counters["limit_roster_previews"] == 1


async def test_a_roster_that_has_changed_since_the_preview(app: World) -> None:
    _, first = await upload(app, LIST.encode())
    _, second = await upload(app, LIST.encode(), "other.csv")
    await app.post(IMPORT, {"preview": first["preview"]})
    status, answer = await send(app, IMPORT, {"preview": second["preview"]})
    assert (status, answer["error"]["code"], answer["preview"]["counts"]) == (409, "roster_changed", {})
    await app.post(IMPORT, {"preview": answer["preview"]["preview"]})
    assert await students(app) == ["Ada Löve", "Bo Ek"]


async def test_a_preview_is_the_one_of_who_sent_it(app: World) -> None:
    _, preview = await upload(app, LIST.encode())
    body = {"name": "Ms Day", "login": "day", "role": "administrator", "password": "long and secret"}
    await app.post("/api/v1/educators", body)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as other:
        login = {"name": "day", "password": "long and secret"}
        async with other.post(f"{app.url}/api/v1/login", json=login) as answer:
            assert answer.status in (200, 204), await answer.text()
        async with other.post(app.url + IMPORT, json={"preview": preview["preview"]}) as answer:
            assert answer.status == 404


async def test_a_watched_list_asks_and_is_answered(app: World, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "roster"
    names = [f"Student {n}" for n in range(10)]
    text = "id,name,class\n" + "".join(f"{n},{name},7a\n" for n, name in enumerate(names))
    (folder / "students.csv").write_text(text)

    async def asked() -> list[Any]:
        await app.get("/api/v1/classes")
        found: list[Any] = await app.get(QUESTIONS)
        return found

    while len(await students(app)) < 10:
        pass
    (folder / "students.csv").write_text(text[: text.index("1,")])
    while not (found := await asked()):
        pass
    [question] = found
    assert (question["origin"], question["counts"]) == ("students.csv", {"removed": 9})
    assert (await send(app, IMPORT, {"preview": question["preview"]}))[0] == 409
    assert len(await students(app)) == 10
    assert await app.post(QUESTIONS, {"preview": question["preview"], "answer": "no"}) == {"question": None}
    assert await asked() == []
    (folder / "students.csv").write_text(text[: text.index("1,")] + "\n")
    while not (found := await asked()):
        pass
    done = await app.post(IMPORT, {"preview": found[0]["preview"], "answered": ["many"]})
    assert done["counts"] == {"removed": 9}
    assert (await send(app, QUESTIONS, {"preview": "x", "answer": "no"}))[0] == 404
    assert (await send(app, QUESTIONS, {"preview": "x", "answer": "perhaps"}))[0] == 400


async def test_who_leaves_the_list_while_connected_gets_a_message_and_stays_visible(app: World, tmp_path: Path) -> None:
    _, preview = await upload(app, b"id,name,class\n1,Ada,7a\n2,Bo,7a\n")
    await app.post(IMPORT, {"preview": preview["preview"]})
    app.node.roster.watch.leaving.grace_seconds = 0  # type: ignore[union-attr]
    async with app.student("Ada") as ada:
        _, preview = await upload(app, b"id,name,class\n3,Cy,7a\n", scope="origin")
        await app.post(IMPORT, {"preview": preview["preview"], "answered": ["many"]})
        await students(app)
        message = await ada.receive_type("message")
        assert "no longer on the list" in message["text"]
        assert await students(app) == ["Ada", "Cy"]
        await ada.send({"event": "org.example.work"})
        await ada.acked(1)
    await until(lambda: not app.node.web.students_online)
    while await students(app) != ["Cy"]:
        pass


def test_a_form_is_read_as_browsers_write_it() -> None:
    content = bytes(range(256)) + b"\r\n--x\r\n"
    body = (
        b'--b\r\nContent-Disposition: form-data; name="options"\r\n\r\n{}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="C:\\a\\%22l\xc3\xb6.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n" + content + b"\r\n--b--\r\n"
    )
    found = parts_of(body, 'multipart/form-data; boundary="b"')
    assert (found["options"].content, found["file"].content, found["file"].filename) == (b"{}", content, '"lö.csv')


def test_every_list_of_a_program_can_be_sent() -> None:
    assert len(list(FOLDER.iterdir())) >= 40
