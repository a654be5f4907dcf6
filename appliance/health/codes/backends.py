"""The codes of the key-value store and the pubsub, and of nodes that share them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

BACKENDS: Mapping[str, Code] = MappingProxyType(
    {
        "kvs.away": Code(
            "error",
            "kvs",
            "{detail} This is tried again by itself; students' work waits in their browsers meanwhile.",
        ),
        "pubsub.away": Code(
            "error", "pubsub", "{detail} Until this works, dashboards may show changes late. Nothing is lost."
        ),
        "store.unread": Code(
            "error",
            "kvs",
            "Changes could not be read from the store ({detail}). This is tried again by itself.",
        ),
        "refill.failing": Code(
            "error",
            "kvs",
            "{detail} This is tried again by itself; until it works, the key-value store may lack events after a loss. "
            "Check the disk of the data folder.",
        ),
        "refill.checking": Code(
            "critical",
            "kvs",
            "This node accepts no students yet: it compares the key-value store with its archive. This ends by itself.",
        ),
        "refill.running": Code(
            "critical",
            "kvs",
            "This node accepts no students yet: the key-value store is being refilled from its archive, {percent} % "
            "done. This ends by itself.",
        ),
        "refill.waiting": Code(
            "critical",
            "kvs",
            "This node accepts no students yet: the key-value store lacks events in the archives of {nodes}. Start "
            "these nodes; after a while this one continues without them.",
        ),
        "refill.blocked": Code(
            "warning",
            "kvs",
            "{count:stream waits|streams wait} for the archives of other nodes. Start these nodes.",
        ),
        "refill.missing": Code(
            "error",
            "kvs",
            "The key-value store lacks {count:event|events} that no node had in its archive; the log says since when. "
            "Start the nodes that are missing, then run 'verify' with the archives of all nodes.",
        ),
        "refill.gap": Code(
            "error",
            "kvs",
            "No archive that was uploaded in time has {count:event|events} of one student ({where}{reason:?; }). The "
            "student's figures and texts go on without them, since other nodes are waited for only as long as "
            "kvs.refill_seconds says. They are complete again once all nodes run and a store without data is "
            "refilled.",
            of_student=True,
        ),
        "refill.gap_more": Code(
            "error",
            "kvs",
            "The same is true of {students:further student|further students}, of whom {count:event is|events are} "
            "missing.",
        ),
        "nodes.outdated": Code(
            "critical",
            "nodes",
            "This node accepts no students: other nodes run newer versions of {reducers}. Install the same version "
            "here.",
        ),
        "nodes.same_name": Code(
            "error",
            "nodes",
            "Another appliance with the same store has the same name, {subject}, so it is not certain who is online. "
            "Give each its own name (--node).",
        ),
    }
)
