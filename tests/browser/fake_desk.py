"""The routes of a fake server for the teachers' pages beside the dashboard: people and lists, kept in memory."""

from __future__ import annotations

import json
import time
from typing import Any

from aiohttp import web

Item = dict[str, Any]


def student(name: str, class_id: str = "c-1", **more: Any) -> Item:
    """A student as `GET /api/v1/students` has it."""
    known = {"student_id": f"s-{name}", "name": name, "class_id": class_id, "listed": True, "online": False}
    return known | {"last_event_at": None, "summaries": {}} | more


def preview(**more: Any) -> Item:
    """The preview of a list that changes nothing."""
    known: Item = {"preview": "p-1", "origin": "students.csv", "counts": {}, "items": [], "notes": [], "questions": []}
    return known | {"columns": [], "unchanged": 0, "kept": 0} | more


def item(kind: str, name: str, line: int = 0, **more: str) -> Item:
    """A line of a preview."""
    known = {"kind": kind, "file": "students.csv", "line": line, "name": name, "class_title": "7A"}
    return known | {"before": "", "detail": ""} | more


class Desk:
    """What the fake server knows of people and lists.

    Attributes:
        role: of who is signed in.
        classes: as `GET /api/v1/classes` has them, by id.
        students: of all classes, by id.
        removed: those who were removed, by id.
        previews: the answers to come, one for each list that is read.
        watched: the previews of watched lists that wait for an answer.
        changed: the preview with which the next import is refused, since the roster has changed; None to do it.
        received: method and path of each request that changes something, with its content.
    """

    def __init__(self) -> None:
        self.role = "administrator"
        self.classes = {id: {"class_id": id, "title": title, "approval": False} for id, title in _CLASSES}
        self.students: dict[str, Item] = {}
        self.removed: dict[str, Item] = {}
        self.previews: list[Item] = []
        self.watched: list[Item] = []
        self.changed: Item | None = None
        self.received: list[tuple[str, Item]] = []

    def add(self, *students: Item) -> None:
        """Add students."""
        self.students |= {one["student_id"]: one for one in students}

    def routes(self) -> list[web.RouteDef]:
        """The routes of the application."""
        return [
            web.get("/api/v1/account", self._account),
            web.get("/api/v1/classes", self._classes),
            web.post("/api/v1/class/change", self._change_class),
            web.get("/api/v1/students", self._students),
            web.get("/api/v1/search", self._search),
            web.post("/api/v1/students/{id}/{what}", self._change),
            web.post("/api/v1/roster/preview", self._preview),
            web.post("/api/v1/roster/import", self._import),
            web.get("/api/v1/roster/questions", self._questions),
            web.post("/api/v1/roster/questions", self._answer),
            web.get("/api/v1/roster/export", self._export),
        ]

    async def _account(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "Ms Day", "role": self.role, "class_ids": None, "educator_id": "e-1"})

    async def _classes(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.classes.values()))

    async def _change_class(self, request: web.Request) -> web.Response:
        body = await self._note(request)
        self.classes[body["class_id"]] |= body
        return web.json_response(self.classes[body["class_id"]])

    async def _students(self, request: web.Request) -> web.Response:
        known = self.removed if request.query.get("removed") else self.students
        class_id = request.query.get("class_id")
        return web.json_response([one for one in known.values() if class_id in (None, one["class_id"])])

    async def _search(self, request: web.Request) -> web.Response:
        wanted = request.query["q"].casefold()
        found = [one for one in self.students.values() if wanted and wanted in one["name"].casefold()]
        return web.json_response([{key: one[key] for key in ("student_id", "name", "class_id")} for one in found[:50]])

    async def _change(self, request: web.Request) -> web.Response:
        id, what = request.match_info["id"], request.match_info["what"]
        body = await self._note(request)
        if what == "rename":
            if any(one["name"] == body["name"] for one in self.students.values()):
                error = {"code": "bad_name", "message": "Another student of this class has this name."}
                return web.json_response({"error": error}, status=400)
            self.students[id]["name"] = body["name"]
        elif what == "remove":
            until = time.time() + 3600 if body.get("until") else None
            self.removed[id] = self.students.pop(id) | {"removed_at": time.time(), "barred_until": until}
        elif what == "undo-remove":
            self.students[id] = self.removed.pop(id)
        elif what == "merge":
            del self.students[id]
            id = body["into"]
        return web.json_response({"student_id": id, "name": self.students.get(id, {}).get("name")})

    async def _preview(self, request: web.Request) -> web.Response:
        await self._note(request)
        return web.json_response(self.previews.pop(0))

    async def _import(self, request: web.Request) -> web.Response:
        await self._note(request)
        if self.changed is not None:
            error = {"code": "roster_changed", "message": "The roster has changed."}
            preview, self.changed = self.changed, None
            return web.json_response({"error": error, "preview": preview}, status=409)
        self.watched = []
        return web.json_response({"counts": {"added": 2}})

    async def _questions(self, request: web.Request) -> web.Response:
        return web.json_response(self.watched)

    async def _answer(self, request: web.Request) -> web.Response:
        await self._note(request)
        self.watched = []
        return web.json_response({})

    async def _export(self, request: web.Request) -> web.Response:
        headers = {"Content-Disposition": 'attachment; filename="students.csv"'}
        return web.Response(body=b"name,class\r\n", content_type="text/csv", headers=headers)

    async def _note(self, request: web.Request) -> Item:
        """Note what a page sent."""
        if request.content_type == "application/json":
            body: Item = await request.json()
        else:
            form = await request.post()
            file = form["file"]
            assert isinstance(file, web.FileField)
            body = {"name": file.filename, "content": file.file.read(), **json.loads(str(form["options"]))}
        self.received.append((request.path, body))
        return body


_CLASSES = (("c-1", "7A"), ("c-2", "7B"))
