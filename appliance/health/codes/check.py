"""The codes of the command `check`, besides those of the backends."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

CHECK: Mapping[str, Code] = MappingProxyType(
    {
        "config.read": Code("ok", "configuration", "configuration ({file})"),
        "config.unusable": Code("error", "configuration", "{detail}", label="configuration"),
        "reducers.found": Code("ok", "reducers", "reducers ({names})"),
        "reducers.none": Code(
            "error",
            "reducers",
            "No reducer runs, so dashboards would stay empty; check reducers.disabled.",
            label="reducers",
        ),
        "folder.writable": Code("ok", "folders", "{subject} ({path})"),
        "folder.absent": Code(
            "info",
            "folders",
            "It does not exist yet; the first start makes it. If files should be there already, check its name.",
            label="{subject} ({path})",
        ),
        "folder.unwritable": Code(
            "error",
            "folders",
            "It cannot be written ({detail}); {advice}.",
            label="{subject} ({path})",
        ),
        "backend.works": Code("ok", "backends", "{source} ({url})"),
        "backend.refused": Code("error", "backends", "{detail}", label="{source} ({url})"),
        "backend.silent": Code(
            "error",
            "backends",
            "It did not answer within {seconds} seconds; check that it runs and its address.",
            label="{source} ({url})",
        ),
        "backend.failing": Code(
            "error",
            "backends",
            "It fails ({detail}); check that it runs and its address.",
            label="{source} ({url})",
        ),
        "roster.stored": Code("ok", "roster", "{source} with {classes:class|classes} and {students:student|students}"),
        "port.any": Code("ok", "port", "port (any free one)"),
        "port.free": Code("ok", "port", "port {port} on {host}"),
        "port.ours": Code(
            "ok",
            "port",
            "port {port} on {host}, in use by the appliance that runs on this data folder (process {process})",
        ),
        "port.unknown_host": Code(
            "error",
            "port",
            "{host} is not an address; set web.host to one of this computer, or 0.0.0.0.",
            label="port {port} on {host}",
        ),
        "port.in_use": Code(
            "error",
            "port",
            "Another program listens there, perhaps Classroom Observer with another data folder; stop it or choose "
            "another web.port.",
            label="port {port} on {host}",
        ),
        "port.forbidden": Code(
            "error",
            "port",
            "This account may not use that port; choose a web.port of 1024 or more.",
            label="port {port} on {host}",
        ),
        "port.foreign_host": Code(
            "error",
            "port",
            "This computer does not have that address; set web.host to one it has, or 0.0.0.0.",
            label="port {port} on {host}",
        ),
        "port.unusable": Code(
            "error",
            "port",
            "It cannot be used ({detail}); choose another web.port or web.host.",
            label="port {port} on {host}",
        ),
    }
)
