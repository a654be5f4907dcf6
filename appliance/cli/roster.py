"""The commands ``import-roster`` (also ``import``) and ``export-roster``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_roster_flag, settings_of
from appliance.cli.output import disk_errors
from appliance.errors import SettingsError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.config import Settings
    from appliance.roster.imports.model import Note, Question, ReadOptions
    from appliance.roster.imports.plan import Item, Plan
    from appliance.roster.store import RosterStore
    from appliance.roster.watch import WatchQuestion

_KINDS = {
    "class_added": "new class",
    "class_changed": "class changed",
    "class_ended": "class ends",
    "added": "added",
    "back": "back",
    "linked": "joined before",
    "renamed": "renamed",
    "moved": "moved",
    "id_changed": "new id",
    "removed": "taken out",
    "left": "left",
    "refused": "refused",
}


def add(commands: Commands) -> None:
    for name in ("import-roster", "import"):
        importing = commands.add(name, _import, "import a list of students")
        add_data_flags(importing)
        add_roster_flag(importing)
        _add_import_flags(importing)
    exporting = commands.add("export-roster", _export, "write the students of classes as a list")
    add_data_flags(exporting)
    add_roster_flag(exporting)
    exporting.add_argument("out", type=Path, metavar="FILE", help="the list to write: a .csv, or a .zip for OneRoster")
    exporting.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="ID", help="only this class; may be repeated"
    )
    exporting.add_argument("--like", metavar="LIST", help="write it in the form in which this list was imported")
    exporting.add_argument("--oneroster", choices=("1.1", "1.2"), help="write a OneRoster export")


def _add_import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "list",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="a list as CSV or text, or a OneRoster zip or folder; with --answer, the name of a watched list",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    parser.add_argument("--encoding", default="", metavar="NAME", help="encoding of the list, such as windows-1250")
    parser.add_argument(
        "--columns", action="append", default=[], metavar="MEANING=HEADING", help="what a column means: given=Vorname"
    )
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="ID", help="only this class; may be repeated"
    )
    parser.add_argument(
        "--school", dest="schools", action="append", default=[], metavar="ID", help="a school of a OneRoster export"
    )
    parser.add_argument("--folder", metavar="PATH", help="which folder of a OneRoster export with several")
    parser.add_argument("--replace", action="store_true", help="take out students of lists who are not in the file")
    parser.add_argument("--yes", action="store_true", help="answer all questions by yes")
    parser.add_argument("--skip-bad", action="store_true", help="import the good rows although some are refused")
    parser.add_argument("--answer", choices=("yes", "no"), help="answer what the watched lists ask")


def _import(parsed: argparse.Namespace) -> int:
    import asyncio

    settings = settings_of(parsed)
    if parsed.answer is not None:
        return asyncio.run(_answer(settings, parsed))
    if parsed.list is None:
        raise SettingsError("Name the list to import.")
    with disk_errors(parsed.list):
        return asyncio.run(_import_list(settings, parsed))


async def _import_list(settings: Settings, parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.roster import RosterLimits
    from appliance.roster.imports.applying import apply_plan, plan_import
    from appliance.roster.imports.plan import PlanOptions
    from appliance.roster.imports.reading import read_path

    limits = RosterLimits.of(settings.limits)
    options = PlanOptions("all" if parsed.replace else "none", tuple(parsed.classes), settings.roster.ask_removed)
    incoming = await asyncio.to_thread(read_path, parsed.list, _read_options(parsed), limits)
    async with _opened(settings) as store:
        plan = await plan_import(store, incoming, limits, options)
        answered = ["*"] if parsed.yes else ["refused"] if parsed.skip_bad else []
        _print_plan(plan, rows=parsed.dry_run)
        still_open = plan.open_questions(answered)
        if not still_open and not parsed.dry_run:
            plan = await apply_plan(store, plan, limits, options, answered=answered)
    _print_counts(plan, done=not parsed.dry_run and not still_open)
    for question in still_open:
        _print_question(question)
    if parsed.dry_run:
        print("Nothing was changed: this was a dry run.")
    elif still_open:
        by_yes = all(question.yes for question in still_open)
        print("Nothing was changed." + (" If that is right, add --yes." if by_yes else ""))
    return 1 if still_open else 0


async def _answer(settings: Settings, parsed: argparse.Namespace) -> int:
    """Answer what the watched lists ask."""
    from appliance.roster import RosterLimits
    from appliance.roster.place import RosterPlace
    from appliance.roster.watch import ListWatch

    folder = RosterPlace.of(settings).lists
    async with _opened(settings) as store:
        watch = ListWatch(
            store,
            folder,
            RosterLimits.of(settings.limits),
            ask_removed=settings.roster.ask_removed,
            node=settings.node_name if store.shared else "",
            check_seconds=0,
        )
        # At the second check a list has not changed since the first one.
        await watch.import_changed()
        await watch.import_changed()
        asked = [q for q in watch.questions if parsed.list is None or parsed.list.name == q.file]
        for question in asked:
            await _answer_one(watch, question, parsed)
    if not asked:
        print("The watched lists ask nothing.")
    return 0


async def _answer_one(watch: object, question: WatchQuestion, parsed: argparse.Namespace) -> None:
    from appliance.roster.watch import ListWatch

    assert isinstance(watch, ListWatch)
    options = _read_options(parsed)
    print(f"{question.file}: " + " ".join(one.text for one in question.questions))
    _print_plan(question.plan, rows=True)
    default = options == _read_options(argparse.Namespace(**{**vars(parsed), **_NO_OPTIONS}))
    needs_more = any(not one.yes for one in question.questions)
    if parsed.answer == "yes" and needs_more and default:
        for one in question.questions:
            _print_question(one)
        print(f"{question.file} was left: say how to read it.")
        return
    following = await watch.answer(
        question.id, yes=parsed.answer == "yes", options=None if default or parsed.answer == "no" else options
    )
    if following is not None and all(one.yes for one in following.questions):
        following = await watch.answer(following.id, yes=True)
    if following is not None:
        for one in following.questions:
            _print_question(one)
        return
    print(f"{question.file} was imported." if parsed.answer == "yes" else f"{question.file} was left as it is.")


_NO_OPTIONS: dict[str, object] = {"encoding": "", "columns": [], "classes": [], "schools": [], "folder": None}


def _export(parsed: argparse.Namespace) -> int:
    import asyncio

    with disk_errors(parsed.out):
        return asyncio.run(_export_list(settings_of(parsed), parsed))


async def _export_list(settings: Settings, parsed: argparse.Namespace) -> int:
    from appliance.datafolder.files import write_private
    from appliance.roster.imports.exporting import OWN_FORM, enrolled, form_of, known_lists, packed, written
    from appliance.roster.tables import CLASSES

    async with _opened(settings) as store:
        sections = {section.class_id: section async for section in store.scan(CLASSES) if section.ended_at is None}
        unknown = [class_id for class_id in parsed.classes if class_id not in sections]
        if unknown:
            raise SettingsError(f"There is no class {unknown[0]}. Classes are {', '.join(sorted(sections)) or 'none'}.")
        lists = await known_lists(store)
        like = next((record for record in lists if record.origin == parsed.like), None)
        if parsed.like is not None and like is None:
            known = ", ".join(record.origin for record in lists) or "none"
            raise SettingsError(f"No list {parsed.like} was imported. Lists are {known}.")
        ordered = parsed.classes or sorted(sections, key=lambda class_id: sections[class_id].order)
        students = await enrolled(store, ordered)
    if parsed.oneroster or (like is not None and like.kind == "oneroster"):
        made = packed(students, parsed.oneroster or "1.2")
    else:
        made = written(students, form_of(like) if like is not None else OWN_FORM)
    write_private(parsed.out, made.content)
    print(f"{parsed.out} has {counted(made.students, 'student')}; its encoding is {made.encoding}.")
    return 0


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[RosterStore]:
    """The store of the roster, beside the program if it runs.

    Raises:
        SettingsError: the store cannot be opened from here.
    """
    from appliance.kvs import kvs_facts
    from appliance.roster import open_store
    from appliance.roster.place import RosterPlace

    place = RosterPlace.of(settings)
    if place.in_kvs or (kvs_facts(settings.kvs.url).shared and not place.chosen):
        raise SettingsError(
            "The roster of these nodes is in their key-value store. Import the list on the page /roster of a running "
            "node, or put it into the watched folder of one."
        )
    _bring_up_to_date(settings)
    store = open_store(place.url)
    try:
        yield store
    finally:
        await store.close()


def _bring_up_to_date(settings: Settings) -> None:
    """Bring a data folder of an earlier version, whose roster is in other files, to this one; make a missing one.

    Raises:
        SettingsError: the folder cannot be written.
    """
    from appliance.datafolder import DataFolder
    from appliance.errors import DataFolderInUseError
    from appliance.maintenance.upgrade import bring_up_to_date
    from appliance.roster.place import RosterPlace

    try:
        with DataFolder(settings.data_path) as folder:
            bring_up_to_date(folder, lists=RosterPlace.of(settings).lists)
    except DataFolderInUseError:
        # The program that runs has done it.
        return


def _read_options(parsed: argparse.Namespace) -> ReadOptions:
    from appliance.roster.imports.model import ReadOptions

    columns: dict[str, str] = {}
    for text in parsed.columns:
        for pair in text.split(","):
            meaning, equals, heading = pair.partition("=")
            if not equals or not heading:
                raise SettingsError(f"--columns {text}: write MEANING=HEADING, such as given=Vorname.")
            columns[meaning.strip()] = heading.strip()
    return ReadOptions(parsed.encoding, columns, tuple(parsed.classes), tuple(parsed.schools), parsed.folder)


# ---- What is printed ----


def _print_plan(plan: Plan, *, rows: bool) -> None:
    """Print each row that is refused, and with `rows` each that is changed or left too."""
    for item in plan.items:
        if rows or item.kind == "refused":
            print(_line(item))
    for note in plan.notes:
        print(f"{_place(note)}note: {note.text}")


def _line(item: Item) -> str:
    name = item.name or (item.class_title if item.kind.startswith("class") else "")
    parts = [_KINDS[item.kind]]
    if name:
        parts.append(name)
    if item.name and item.class_title:
        parts.append(f"({item.class_title})")
    if item.before:
        parts.append(f"before: {item.before}")
    text = " ".join(parts)
    return f"{_place(item)}{text}" + (f": {item.detail}" if item.detail else "")


def _place(at: Item | Note) -> str:
    return f"{at.file}, line {at.line}: " if at.line else f"{at.file}: "


def _print_counts(plan: Plan, *, done: bool) -> None:
    counts = plan.counts
    verb = "Done" if done else "Would be done"
    said = [f"{counts[kind]:,} {words}" for kind, words in _KINDS.items() if counts[kind]]
    print(f"{verb}: {', '.join(said) or 'nothing'}. Unchanged: {plan.unchanged:,}. Kept without a row: {plan.kept:,}.")


def _print_question(question: Question) -> None:
    print(question.text)
    for sample in question.samples:
        print(f"    {sample}")
    for choice in question.choices:
        print(f"    {choice.key}: {choice.title}")
    hints = {
        "encoding": "Say it by --encoding.",
        "columns": "Say it by --columns name=HEADING or --columns given=HEADING,family=HEADING; numbers do too.",
        "headings": "Say what they mean by --columns, or leave them by --yes.",
        "class": "Say it by --class.",
        "schools": "Say it by --school, or --folder.",
    }
    if question.key in hints:
        print(f"    {hints[question.key]}")
