"""Versions of the reducers that all nodes run, and the generation of the store.

Both are in the row ``reducers`` of the store. The newest version of a reducer counts. The first node that has it clears
all students' states and raises the generation; every node that has it too then uploads its archive again
(`appliance.cluster.refill`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from appliance.kvs import KVS, Change, Encoded, Row, Value
from appliance.states import student_key

log = logging.getLogger(__name__)

REDUCERS = "reducers"
_VERSION = "version/"
_GENERATION = "generation"
_CLEARING = "clearing"


class ReducerVersions:
    """Agrees with the other nodes on the versions of reducers.

    Attributes:
        outdated: names of the reducers of which other nodes run a newer version, as of the last `agree`.
    """

    def __init__(self, kvs: KVS, versions: Mapping[str, int]) -> None:
        """Args:
        kvs: the shared store.
        versions: this node's version of each reducer, by name.
        """
        self.outdated: list[str] = []
        self._kvs = kvs
        self._versions = versions

    async def generation(self) -> str:
        """The store's generation: another one where the store has lost its memory, or its states were cleared.

        Raises:
            BackendError: the store cannot be reached.
        """
        epoch = await self._kvs.epoch()
        [row] = await self._kvs.read([REDUCERS])
        return f"{epoch}.{row.fields.get(_GENERATION, b'0').decode()}"

    async def agree(self) -> None:
        """Write this node's newer versions, and clear the states that older versions made.

        Raises:
            BackendError: the store cannot be reached.
        """
        cleared = False
        while True:
            [row] = await self._kvs.read([REDUCERS])
            stored = _stored_versions(row)
            self.outdated = [name for name, version in self._versions.items() if stored.get(name, 0) > version]
            newer = {name: version for name, version in self._versions.items() if stored.get(name, 0) < version}
            clearing = _CLEARING in row.fields
            if self.outdated or not (newer or cleared or clearing):
                return
            fields: dict[str, Value | None] = {
                _VERSION + name: Encoded(b"%d" % version) for name, version in newer.items()
            }
            raises_generation = False
            if stored and newer:
                log.warning("The states of %s are computed again from the archives of all nodes.", ", ".join(newer))
                fields[_CLEARING] = Encoded(b"1")
            elif cleared or clearing:
                if not cleared:
                    await self._kvs.remove(await self._kvs.keys(student_key("")))
                    cleared = True
                # A node that cleared raises the generation even if another node did both first: what that node has
                # uploaded since may be cleared again.
                fields |= {_CLEARING: None, _GENERATION: _next_generation(row)}
                raises_generation = True
            conflicts = await self._kvs.commit([Change(REDUCERS, row.version, fields)])
            if raises_generation and not conflicts:
                return


def _stored_versions(row: Row) -> dict[str, int]:
    return {
        name.removeprefix(_VERSION): int(version) for name, version in row.fields.items() if name.startswith(_VERSION)
    }


def _next_generation(row: Row) -> Encoded:
    return Encoded(b"%d" % (int(row.fields.get(_GENERATION, b"0")) + 1))
