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
            "{detail} This is tried again by itself; what students do waits in their browsers meanwhile.",
        ),
        "pubsub.away": Code(
            "error", "pubsub", "{detail} Until this works, dashboards may show changes late. Nothing is lost."
        ),
        "store.unread": Code(
            "error",
            "kvs",
            "What changed could not be read from the store ({detail}). It is read again until that works.",
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
            "This node takes no students yet: it compares the key-value store with its archive. That passes by itself.",
        ),
        "refill.running": Code(
            "critical",
            "kvs",
            "This node takes no students yet: the key-value store is filled again from its archive, {percent} % done. "
            "That passes by itself.",
        ),
        "refill.waiting": Code(
            "critical",
            "kvs",
            "This node takes no students yet: the key-value store lacks what is in the archives of {nodes}. Start "
            "these nodes; after a while this one goes on without them.",
        ),
        "refill.blocked": Code(
            "warning",
            "kvs",
            "{count:stream waits|streams wait} for other nodes to bring their archives. Start these nodes.",
        ),
        "refill.missing": Code(
            "error",
            "kvs",
            "The key-value store lacks {count:event|events} that no node had in its archive; the log says since when. "
            "Start the nodes that are missing, then run 'verify' with the archives of all nodes.",
        ),
        "nodes.outdated": Code(
            "critical",
            "nodes",
            "This node takes no students: other nodes run newer versions of {reducers}. Install the same version here.",
        ),
        "nodes.same_name": Code(
            "error",
            "nodes",
            "Another appliance with the same store also calls itself {subject}, so who is online is not known for "
            "sure. Give each its own name (--node).",
        ),
    }
)
