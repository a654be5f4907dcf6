"""Erase in a store: removes a student from the key-value store that nodes share."""

from __future__ import annotations

from pathlib import Path

from appliance.cluster.membership import node_key
from appliance.datafolder.traces import json_forms
from appliance.kvs import KVS, Change, open_kvs
from appliance.kvs.records import JOURNAL, MEMBERS, SharedRecords, erased_mark
from appliance.roster.shared_rows import student_row
from appliance.states import student_key


async def erase_in_store(url: str, data: Path, student_id: str, *, traced: bool) -> bool:
    """Erase a student from a key-value store that nodes share. No node may run meanwhile.

    A note of it (`SharedRecords.note_erased`) stays in the store and in this node's journal, so that no other node
    puts the student back from its own journal and archive.

    Args:
        url: the store.
        data: this node's data folder.
        student_id: the student.
        traced: whether this node has traces of the student.

    Returns:
        Whether the store had the student, or a note that it was erased.

    Raises:
        BackendError: the store cannot be reached.
        SettingsError: the URL cannot be used, or the journal cannot be read.
    """
    store = open_kvs(url)
    records = SharedRecords(store, data / JOURNAL)
    try:
        rows = [student_key(student_id), student_row(student_id)]
        members = [row.key for row in await store.read(await store.keys(MEMBERS)) if student_id in row.fields]
        known = bool(members) or any(row.version for row in await store.read(rows))
        known = known or erased_mark(student_id) in await records.erased()
        if known or traced:
            await records.note_erased(student_id, *rows)
            await store.remove(rows)
            for key in members:
                await _remove_member(store, key, student_id)
            # A node that was killed left the ids of those who were online there.
            nodes = await store.read(await store.keys(node_key("")))
            forms = json_forms(student_id)
            await store.remove(row.key for row in nodes if any(f in v for v in row.fields.values() for f in forms))
        return known
    finally:
        await records.close()
        await store.close()


async def _remove_member(store: KVS, key: str, student_id: str) -> None:
    while True:
        [row] = await store.read([key])
        if student_id not in row.fields or not await store.commit([Change(key, row.version, {student_id: None})]):
            return
