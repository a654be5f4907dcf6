"""Erase in a store: removes a student from the key-value store that nodes share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.cluster.membership import node_key
from appliance.datafolder.stored_files import Place, StudentTraces
from appliance.datafolder.traces import json_forms
from appliance.kvs import KVS, Change, open_kvs
from appliance.kvs.records import JOURNAL, SharedRecords, erased_mark
from appliance.maintenance.erase import InStore
from appliance.maintenance.search import Matcher, Searched, Sought
from appliance.roster.earlier_shared import EARLIER_MEMBERS, earlier_rows
from appliance.roster.shared_store import HEAD, traces_of_student
from appliance.states import student_key

_ROWS_AT_ONCE = 200


async def erase_in_store(url: str, folders: Sequence[Path], traces: StudentTraces, sought: Sought) -> InStore:
    """Erase a student from a key-value store that nodes share. No node may run meanwhile.

    A note of it (`SharedRecords.note_erased`) stays in the store and in this node's journal, so that no other node
    puts the student back from its own journal and archive.

    Args:
        url: the store.
        folders: this node's data folder, and those of workers in it.
        traces: what these folders have of the student.
        sought: what to search for afterwards in all keys and values.

    Returns:
        What was done; nothing is where neither the store nor the folders know the student.

    Raises:
        BackendError: the store cannot be reached.
        SettingsError: the URL cannot be used, or the journal cannot be read.
    """
    student_id = traces.student_id
    store = open_kvs(url)
    journals = [SharedRecords(store, folder / JOURNAL) for folder in folders]
    try:
        in_roster, entries = await traces_of_student(store, student_id)
        rows = list(dict.fromkeys([student_key(student_id), *earlier_rows(student_id), *in_roster]))
        earlier = await store.read(await store.keys(EARLIER_MEMBERS))
        entries.update((row.key, [student_id]) for row in earlier if student_id in row.fields)
        own = [row.key for row in await store.read(rows) if row.version and row.key != HEAD]
        erased = [await records.erased() for records in journals]
        known = bool(entries or own) or any(erased_mark(student_id) in marks for marks in erased)
        if not known and not traces.found:
            return InStore()
        for records in journals:
            await records.note_erased(student_id, *rows, *(field for fields in entries.values() for field in fields))
        await store.remove(rows)
        for key, fields in entries.items():
            await _remove_fields(store, key, fields)
        # A node that was killed left the ids of those who were online there.
        nodes = await store.read(await store.keys(node_key("")))
        forms = json_forms(student_id)
        online = [row.key for row in nodes if any(form in value for value in row.fields.values() for form in forms)]
        await store.remove(online)
        counts = {
            "student rows": len(own),
            "entries of class lists": sum(map(len, entries.values())),
            "lists of who is online": len(online),
        }
        removed = [Place("the shared store", number, what) for what, number in counts.items() if number]
        names = sorted(row.key.removeprefix(node_key("")) for row in nodes)
        return InStore(known, removed, await _search(store, sought), names)
    finally:
        for records in journals:
            await records.close()
        await store.close()


async def _search(store: KVS, sought: Sought) -> list[Searched]:
    """Search all keys, fields and values of the store; the result by the first part of the keys."""
    matcher, places = Matcher(sought), dict[str, Searched]()
    keys = await store.keys()
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        for row in await store.read(keys[start : start + _ROWS_AT_ONCE]):
            name = f"the shared store: {row.key.partition('/')[0]}"
            place = places.setdefault(name, Searched(name))
            kinds = matcher.kinds_of_text(row.key)
            place.files += 1
            for field, value in row.fields.items():
                place.bytes += len(value)
                kinds |= matcher.kinds(field.encode("utf-8", "surrogatepass")) | matcher.kinds(value)
            for kind in kinds:
                place.found[kind] += 1
    return [places[name] for name in sorted(places)]


async def _remove_fields(store: KVS, key: str, fields: Sequence[str]) -> None:
    while True:
        [row] = await store.read([key])
        gone = dict.fromkeys(field for field in fields if field in row.fields)
        if not gone or not await store.commit([Change(key, row.version, gone)]):
            return
