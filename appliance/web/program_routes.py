"""Routes that concern the program on this computer: its address, a second start, licences, and stopping."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path

import msgspec
from aiohttp import web

import appliance
from appliance.network.network import Network
from appliance.web.educators import ClassView
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import Security, is_here

# Written when the program is packaged; missing in a source checkout.
LICENCES = Path(appliance.__file__).parent.parent / "licences.txt"

FIREWALL_HINT = (
    "Nobody has joined from another computer yet. If students cannot open the address, the Windows firewall may keep "
    "them out: open Windows Security, then “Firewall & network protection”, then “Allow an app through firewall”, and "
    "tick Classroom Observer. On a school laptop ask IT to let port {port} (TCP) in."
)


class _AddressBody(msgspec.Struct):
    url: str


class ProgramRoutes:
    """Handlers of routes that concern the program on this computer.

    Attributes:
        launch_secret: with it, a program on this computer has `Permission.PROGRAM`; new at every start.
    """

    def __init__(
        self,
        security: Security,
        network: Network,
        launch_secret: str,
        stop: Callable[[], None],
        views: Callable[[web.Request], Awaitable[list[ClassView]]],
    ) -> None:
        self.launch_secret = launch_secret
        self._security = security
        self._network = network
        self._stop = stop
        self._views = views

    async def launch(self, request: web.Request) -> web.Response:
        """``POST /api/v1/launch``: a link that opens the dashboard once; for a second start of the program."""
        return answer({"url": f"http://{request.host}/?token={self._security.launch_links.create()}"})

    async def quit(self, request: web.Request) -> web.Response:
        """``POST /api/v1/quit``: end the program; for the command ``stop``."""
        self._stop()
        return answer({"stopping": True}, status=202)

    async def address(self, request: web.Request) -> web.Response:
        """``POST /api/v1/address``: show students this address first from now on."""
        body = await body_of(request, _AddressBody)
        try:
            self._network.choose(body.url)
        except ValueError:
            raise ApiError(400, "bad_address", "That is not an address of this server.") from None
        return answer(await self._views(request))

    async def stop(self, request: web.Request) -> web.Response:
        """``POST /api/v1/stop``: end the program; only for an educator at this computer, who can start it again."""
        if not is_here(request):
            raise ApiError(403, "not_here", "The program can be stopped only on the computer that it runs on.")
        self._stop()
        return answer({"stopping": True}, status=202)

    async def licences(self, request: web.Request) -> web.Response:
        """``GET /api/v1/licences``: the licence notices of all components, as text."""
        headers = {"Cache-Control": "no-cache"}
        return web.Response(
            text=await asyncio.to_thread(licences), content_type="text/plain", charset="utf-8", headers=headers
        )


def licences() -> str:
    """The licence notices: of the packaged program; in other installations, from the metadata of installed packages."""
    try:
        return LICENCES.read_text(encoding="utf-8")
    except OSError:
        pass
    lines = [
        "Classroom Observer runs with these parts, each under its own licence.",
        "",
        "Bulma: MIT",
        "d3: ISC",
        f"Python: {sys.copyright.splitlines()[0]} Python Software Foundation License",
    ]
    for part in sorted(metadata.distributions(), key=lambda one: (one.metadata["Name"] or "").lower()):
        lines.append(f"{part.metadata['Name']} {part.version}: {_licence_of(part)}")
    return "\n".join(lines) + "\n"


def _licence_of(part: metadata.Distribution) -> str:
    """The licence of a package in its metadata: the newest of the fields for it that is set."""
    facts = part.metadata.json
    classified = [one.rpartition(" :: ")[2] for one in facts.get("classifier", ()) if one.startswith("License ::")]
    licence = str(facts.get("license_expression") or ", ".join(classified) or facts.get("license") or "")
    return licence.strip().partition("\n")[0] or "see its own files"
