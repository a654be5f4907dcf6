"""The codes of reducers and plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_PLUGIN = "plug-in {subject}, {origin}"

REDUCERS: Mapping[str, Code] = MappingProxyType(
    {
        "reducer.failing": Code(
            "error",
            "reducers",
            "The reducer {subject} failed {count:time|times}, last with {place}. Its figures are out of date; all "
            "others are up to date. Ask its author, or switch it off with reducers.disabled.",
        ),
        "reducer.slow": Code(
            "warning",
            "reducers",
            "The reducer {subject} took {took} s at once. Everybody waited meanwhile; if it happens again, switch it "
            "off with reducers.disabled.",
        ),
        "reducer.states": Code(
            "error",
            "reducers",
            "{count:state|states} of the reducer {subject} cannot be stored or read, last with {place}. The last good "
            "ones are kept; they are rebuilt from the archive once the reducer is repaired.",
        ),
        "reducer.rebuild": Code("info", "reducers", "{subject} is being rebuilt from the archive: {percent} % done."),
        "reducer.rebuild_failed": Code(
            "error",
            "reducers",
            "The figures of {subject} could not be rebuilt from the archive: {detail} They stay incomplete until the "
            "appliance is restarted.",
        ),
        "plugin.left_out": Code(
            "error",
            "reducers",
            "{reason} The plug-in {subject} ({origin}) is left out until that is corrected; all other reducers run.",
            label=_PLUGIN,
        ),
        "plugin.unknown": Code(
            "error",
            "reducers",
            "No reducer has the name {subject}, which the configuration disables. Correct it in reducers.disabled; "
            "'classroom-observer reducers' lists the names.",
            label="plug-in {subject}, reducers.disabled",
        ),
        "plugin.folder": Code(
            "error",
            "reducers",
            "The plug-in folder {subject} cannot be read: {detail}. Its plug-ins are left out; change its permissions.",
            label="plug-in folder",
        ),
    }
)
