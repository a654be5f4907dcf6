"""The routes of lists: preview and import, what watched lists ask, and export. Administrators alone reach them."""

from __future__ import annotations

import asyncio
import io
import zipfile
from typing import Any

import msgspec
from aiohttp import web

from appliance.config import Settings
from appliance.counters import Counters
from appliance.roster import Roster, RosterLimits
from appliance.roster.imports.applying import PlanChangedError, UnansweredError, apply_plan, plan_import
from appliance.roster.imports.exporting import (
    OWN_FORM,
    Enrolled,
    Exported,
    enrolled,
    form_of,
    grouped_by_list,
    known_lists,
    packed,
    written,
)
from appliance.roster.imports.model import RosterImportError
from appliance.roster.imports.plan import Plan
from appliance.roster.imports.reading import read_bytes
from appliance.roster.watch import ListWatch, WatchQuestion
from appliance.web.educators.multipart import parts_of
from appliance.web.educators.roster_previews import ImportOptions, Preview, Previews, view
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of, content_of
from appliance.web.security.principal import principal_of

_MORE_BYTES = 64 * 1024
"""What a form has besides its file."""
FORMATS = ("as-imported", "csv", "oneroster-1.2", "oneroster-1.1")


class _ListBody(ImportOptions, frozen=True):
    name: str = "list.txt"
    text: str | None = None
    preview: str | None = None


class _ImportBody(msgspec.Struct):
    preview: str
    answered: list[str] = []


class _AnswerBody(msgspec.Struct):
    preview: str
    answer: str
    options: ImportOptions | None = None


class RosterRoutes:
    """Handlers of the routes of lists."""

    def __init__(
        self,
        roster: Roster,
        settings: Settings,
        counters: Counters,
    ) -> None:
        """Args:
        roster: the classes, their store, and the watched folder.
        settings: limits.
        counters: counts limits that are hit.
        """
        self._roster = roster
        self._store = roster.store
        self._limits = RosterLimits.of(settings.limits)
        self._seconds = settings.limits.upload_seconds
        self._ask_removed = settings.roster.ask_removed
        self._previews = Previews(settings.limits, counters)
        # One list at a time is read and compared, since that takes memory and time.
        self._busy = asyncio.Lock()

    async def preview(self, request: web.Request) -> web.Response:
        """``POST /api/v1/roster/preview``: a list as a form or as JSON, or another way to read one that was sent."""
        request = request.clone(client_max_size=self._limits.file_bytes + _MORE_BYTES)
        content = await content_of(request, self._seconds)
        owner = principal_of(request).educator_id
        async with self._busy:
            name, sent, options, id = self._sent(request, content, owner)
            pasted = isinstance(sent, str)
            try:
                incoming = await asyncio.to_thread(
                    read_bytes, sent, name, options.reading(), self._limits, pasted=pasted
                )
                plan = await plan_import(self._store, incoming, self._limits, options.planning(self._ask_removed))
            except RosterImportError as error:
                raise ApiError(400, "bad_list", str(error)) from None
        return answer(view(self._previews.add(owner, name, sent, options, plan, id).id, plan))

    async def take(self, request: web.Request) -> web.Response:
        """``POST /api/v1/roster/import``: import a list whose preview was seen."""
        body = await body_of(request, _ImportBody)
        watch = self._roster.watch
        question = next((q for q in watch.questions if q.id == body.preview), None) if watch is not None else None
        if watch is not None and question is not None:
            return await self._take_watched(watch, question, body.answered)
        preview = self._found(request, body.preview)
        try:
            async with self._busy:
                done = await self._apply(preview, body.answered)
        except UnansweredError as error:
            raise ApiError(409, "unanswered", str(error)) from None
        except PlanChangedError as error:
            again = self._previews.add(
                preview.educator_id, preview.name, preview.content, preview.options, error.plan, preview.id
            )
            return _changed(error, view(again.id, error.plan))
        self._previews.remove(preview.id)
        await self._announce()
        return answer(_done(done))

    async def questions(self, request: web.Request) -> web.Response:
        """``GET /api/v1/roster/questions``: what watched lists ask, each with its preview."""
        watch = self._roster.watch
        found = watch.questions if watch is not None else []
        return answer([view(question.id, question.plan, question.questions) for question in found])

    async def answer(self, request: web.Request) -> web.Response:
        """``POST /api/v1/roster/questions``: leave or import a watched list, or read it in another way."""
        body = await body_of(request, _AnswerBody)
        if body.answer not in ("yes", "no"):
            raise ApiError(400, "bad_answer", "Answer yes or no.")
        watch = self._roster.watch
        if watch is None:
            raise ApiError(404, "unknown_question", "No folder of lists is watched.")
        options = body.options.reading() if body.options is not None else None
        try:
            following = await watch.answer(body.preview, yes=body.answer == "yes", options=options)
        except PlanChangedError as error:
            return _changed(error, view(body.preview, error.plan))
        except RosterImportError as error:
            raise ApiError(404, "unknown_question", str(error)) from None
        await self._announce()
        question = view(following.id, following.plan, following.questions) if following is not None else None
        return answer({"question": question})

    async def export(self, request: web.Request) -> web.Response:
        """``GET /api/v1/roster/export``: the students of all classes, or of those that ``class_id`` names."""
        kind = request.query.get("format", FORMATS[0])
        if kind not in FORMATS:
            raise ApiError(400, "bad_format", f"The format is one of {', '.join(FORMATS)}.")
        class_ids = request.query.getall("class_id", [])
        known = [section.class_id for section in await self._roster.classes()]
        if any(class_id not in known for class_id in class_ids):
            raise ApiError(404, "unknown_class", "There is no such class.")
        students = await enrolled(self._store, class_ids or known)
        if kind.startswith("oneroster"):
            version = "1.1" if kind.endswith("1.1") else "1.2"
            made = await asyncio.to_thread(packed, students, version)  # type: ignore[arg-type]
            return _file("students.zip", made)
        if kind == "csv":
            return _file("students.csv", await asyncio.to_thread(written, students, OWN_FORM))
        name, made = await self._as_imported(students)
        return _file(name, made)

    # ---- Parts ----

    async def _announce(self) -> None:
        """Take those out of their classes who have left a list and are not connected, and announce what has changed."""
        if self._roster.watch is not None:
            await self._roster.watch.leaving.check(soon=True)
        self._roster.on_change()

    def _sent(self, request: web.Request, content: bytes, owner: str) -> tuple[str, bytes | str, ImportOptions, str]:
        """Name, content and options of a list that was sent, and the id of the preview that it replaces."""
        try:
            if request.content_type == "multipart/form-data":
                parts = parts_of(content, request.headers.get("Content-Type", ""))
                file, given = parts.get("file"), parts.get("options")
                if file is None:
                    raise ApiError(400, "bad_body", "The form has no file.")
                options = msgspec.json.decode(given.content if given is not None else b"{}", type=ImportOptions)
                return file.filename or "list.csv", file.content, options, ""
            body = msgspec.json.decode(content, type=_ListBody)
        except msgspec.ValidationError as error:
            raise ApiError(400, "bad_body", f"The request's content is not as expected: {error}.") from None
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise ApiError(400, "not_json", "The request's content must be a form or a JSON object.") from None
        options = ImportOptions(body.encoding, body.columns, body.classes, body.schools, body.folder, body.scope)
        if body.preview is not None:
            before = self._previews.get(body.preview, owner)
            if before is None:
                raise _unknown_preview()
            return before.name, before.content, options, before.id
        if body.text is None:
            raise ApiError(400, "bad_body", "Send a list: a file, or its text.")
        return body.name[:200], body.text, options, ""

    def _found(self, request: web.Request, id: str) -> Preview:
        preview = self._previews.get(id, principal_of(request).educator_id)
        if preview is None:
            raise _unknown_preview()
        return preview

    async def _apply(self, preview: Preview, answered: list[str]) -> Plan:
        options = preview.options.planning(self._ask_removed)
        return await apply_plan(self._store, preview.plan, self._limits, options, answered=answered)

    async def _take_watched(self, watch: ListWatch, question: WatchQuestion, answered: list[str]) -> web.Response:
        still_open = [one for one in question.questions if not one.yes or one.key not in answered]
        if still_open:
            raise ApiError(409, "unanswered", still_open[0].text)
        try:
            await watch.answer(question.id, yes=True)
        except PlanChangedError as error:
            return _changed(error, view(question.id, error.plan))
        except RosterImportError as error:
            raise ApiError(404, "unknown_preview", str(error)) from None
        await self._announce()
        return answer(_done(question.plan))

    async def _as_imported(self, students: list[Enrolled]) -> tuple[str, Exported]:
        """Students in the forms of their lists: one file, or a zip of several."""
        groups = grouped_by_list(students, await known_lists(self._store))
        files = [(name, await asyncio.to_thread(_of_list, found, record)) for name, record, found in groups]
        if len(files) == 1:
            return files[0]
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
            for name, made in files:
                target.writestr(name, made.content)
        return "students.zip", Exported(file.getvalue(), "utf-8", len(students))


def _of_list(students: list[Enrolled], record: Any) -> Exported:
    if record is not None and record.kind == "oneroster":
        return packed(students, "1.1" if record.standard == "1.1" else "1.2")
    return written(students, form_of(record))


def _done(plan: Plan) -> dict[str, Any]:
    return {"counts": plan.counts, "unchanged": plan.unchanged, "kept": plan.kept}


def _changed(error: PlanChangedError, preview: dict[str, Any]) -> web.Response:
    """The roster is not as the preview saw it: what would happen now."""
    content = {"error": {"code": "roster_changed", "message": str(error)}, "preview": preview}
    return answer(content, status=409)


def _unknown_preview() -> ApiError:
    return ApiError(404, "unknown_preview", "This preview is no longer there. Send the list again.")


def _file(name: str, made: Exported) -> web.Response:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)[:100]
    kind = "application/zip" if plain.endswith(".zip") else "text/csv"
    headers = {"Content-Disposition": f'attachment; filename="{plain}"', "Cache-Control": "no-store"}
    charset = None if kind == "application/zip" else made.encoding.removesuffix("-sig")
    return web.Response(body=made.content, content_type=kind, charset=charset, headers=headers)
