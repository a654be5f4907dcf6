"""The web application: which route leads where, and what every request passes on its way."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import ClientError, WSCloseCode, web

import appliance
from appliance import __version__
from appliance.cluster.credentials import Credentials
from appliance.cluster.membership import Membership
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.health import Health, worst
from appliance.health.codes import COMPONENTS
from appliance.kvs import KVS
from appliance.lessons.class_control import ClassControl
from appliance.metrics import Metrics
from appliance.network.network import Network
from appliance.pipeline import Pipeline
from appliance.plugins import Catalog
from appliance.pubsub.hints import Hints
from appliance.roster import Roster
from appliance.tasks import Tasks
from appliance.web.educators import Educators
from appliance.web.educators.feed import Feed, Students
from appliance.web.errors import STRANGERS, ApiError, answer, as_api_error
from appliance.web.monitoring import ROUTE as DIAGNOSTICS
from appliance.web.monitoring import Readings
from appliance.web.pages import Pages
from appliance.web.program_routes import FIREWALL_HINT, ProgramRoutes
from appliance.web.security.access import HEADERS, Security, is_here
from appliance.web.security.idle_connections import Strangers
from appliance.web.security.sessions import SignedOut
from appliance.web.students import Conversations, Joining, Registry
from appliance.web.students.admission import Admission

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_WINDOWS = os.name == "nt"
WEBUI = Path(appliance.__file__).parent.parent / "webui"
_RESPONSE = web.RequestKey("response", web.StreamResponse)
"""Where a request keeps the answer that has begun."""
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Access-Control-Max-Age": "600",
}
# What pages of other sites that the configuration names may use: joining, streaming and the client library.
_FOREIGN = ("/api/v1/join", "/api/v1/me", "/client.js", "/client.classic.js")


class WebApp:
    """Everything that answers HTTP and WebSockets.

    Attributes:
        application: for aiohttp to run.
        security: makes launch tokens.
        educators: has the classes and the status.
        machine: has the secret of this run.
        feed: what dashboards get.
        strangers: bounds connections that wait.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        catalog: Catalog,
        pipeline: Pipeline,
        kvs: KVS,
        hints: Hints,
        tasks: Tasks,
        roster: Roster,
        states: ClassControl,
        counters: Counters,
        health: Health,
        network: Network,
        stop: Callable[[], None],
        nodes: Membership | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Put the rooms together; nothing listens yet.

        Raises:
            SettingsError: the pages are missing.
        """
        limits = settings.limits
        self._settings = settings
        self._health = health
        self._states = states
        self.security = Security(
            credentials,
            counters,
            SignedOut(settings.data_path),
            hosts=settings.web.hosts,
            origins=settings.web.origins,
            proxies=settings.web.proxies,
            announced=lambda: network.name,
        )
        self._network = network
        self._pages = Pages(WEBUI)
        self._sockets = Registry(pipeline, states, limits, counters, health, tasks)
        self._sockets.on_presence.add(self._presence)
        self._conversations = Conversations(self._sockets, pipeline, roster, states, settings, counters, tasks)
        self._nodes = nodes
        self._readings = Readings(self.security, metrics or Metrics(counters), roster, settings.metrics.token, counters)
        students = Students(roster, kvs, self._online, counters)
        self.educators = Educators(
            settings,
            catalog,
            pipeline,
            roster,
            kvs,
            states,
            self._online,
            self.security,
            counters,
            students,
            health,
            network,
            self._hint,
            tasks.states,
        )
        self.machine = ProgramRoutes(
            self.security, network, secrets.token_urlsafe(32), stop, self.educators.class_views
        )
        self.feed = Feed(
            students,
            roster,
            hints,
            tasks,
            counters,
            classes=self.educators.class_views,
            updates_per_second=limits.dashboard_updates_per_second,
            dashboards=limits.dashboards,
            send_buffer_bytes=limits.send_buffer_bytes,
            message_bytes=limits.body_bytes,
            stuck_seconds=float(limits.stuck_dashboard_seconds),
        )
        network.on_change.add(self.feed.classes_changed)
        states.on_changed.add(self.feed.changed_here)
        self._counters = counters
        self.application = web.Application(middlewares=[self._guard], client_max_size=limits.body_bytes)
        self.application.on_response_prepare.append(_note_response)
        self.strangers = self.application[STRANGERS] = Strangers(limits, counters)
        self._admission = Admission(roster, kvs, pipeline, states, self._online, limits, counters)
        self._routes(Joining(pipeline, roster, states, settings, counters, self._admission))

    def start(self) -> None:
        """Begin to serve WebSockets."""
        self._sockets.start()
        self._conversations.start()
        self.feed.start()

    async def close(self) -> None:
        """Send students and dashboards away."""
        await self._conversations.close()
        await self._sockets.close()
        await self.feed.close()
        self.strangers.close()

    def _routes(self, joining: Joining) -> None:
        route = self.application.router.add_route
        educator = self._educator
        people = self.educators
        route("GET", "/healthz", self._healthz)
        route("GET", "/metrics", self._readings.metrics)
        route("POST", "/api/v1/join", joining.join)
        route("GET", "/api/v1/me", joining.me)
        route("GET", "/ws/events", self._conversations.handle)
        route("POST", "/api/v1/login", people.login)
        route("POST", "/api/v1/logout", educator(people.logout))
        route("GET", "/api/v1/status", educator(people.status))
        route("GET", "/api/v1/tasks", educator(people.tasks))
        route("GET", "/api/v1/students", educator(people.list_students))
        route("GET", "/api/v1/students/{id}", educator(people.one_student))
        route("POST", "/api/v1/students/{id}/remove", educator(people.remove_student))
        route("GET", "/api/v1/classes", educator(people.list_classes))
        route("GET", "/api/v1/classes/{id}/qr.svg", educator(people.qr))
        route("POST", "/api/v1/launch", self.machine.launch)
        route("POST", "/api/v1/quit", self.machine.quit)
        route("POST", DIAGNOSTICS, self._diagnostics)
        route("POST", "/api/v1/address", educator(self.machine.address))
        route("POST", "/api/v1/stop", educator(self.machine.stop))
        route("GET", "/api/v1/licences", educator(self.machine.licences))
        route("POST", "/api/v1/class/pause", educator(people.pause))
        route("POST", "/api/v1/class/resume", educator(people.resume))
        route("POST", "/api/v1/class/message", educator(people.message))
        route("POST", "/api/v1/class/change", educator(people.change))
        route("POST", "/api/v1/class/remove-idle", educator(self._admission.remove_idle))
        route("GET", "/ws/dashboard", educator(self.feed.handle))
        route("GET", "/", self._dashboard)
        route("GET", "/setup", self._educators_page("teacher/setup.html"))
        for path, name in (
            ("/join", "student/join.html"),
            ("/write", "student/write.html"),
            ("/login", "teacher/login.html"),
            ("/client.js", "client.js"),
            ("/client.classic.js", "client.classic.js"),
            ("/favicon.ico", "icon.svg"),
        ):
            route("GET", path, self._page(name))
        route("GET", "/static/{name:.+}", self._static)
        route("OPTIONS", "/api/v1/{name:join|me}", self._preflight)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What every request passes: host, origin, errors as JSON, and the headers that forbid what we never need."""
        self.strangers.begin(request)
        request = self.security.behind_proxy(request)
        try:
            self.security.guard(request)
            response = await handler(request)
        except Exception as error:
            begun = request.get(_RESPONSE)
            response = as_api_error(error).response() if begun is None else await self._cut_short(request, begun, error)
        finally:
            self.strangers.answered(request)
        if not response.prepared:
            response.headers.update(HEADERS)
            origin = request.headers.get("Origin")
            if request.path in _FOREIGN and self.security.foreign_allowed(origin):
                response.headers.update({"Access-Control-Allow-Origin": origin or "", "Vary": "Origin"})
        return response

    async def _cut_short(self, request: web.Request, begun: web.StreamResponse, error: Exception) -> web.StreamResponse:
        """End an answer that has begun when its handler fails: a second one must not be written into it."""
        expected = isinstance(error, BackendError)
        if not expected:
            self._counters.add("conversation_errors")
            log.error("An answer failed after it had begun: %s.", place_of(error))
        if isinstance(begun, web.WebSocketResponse):
            try:
                if expected:
                    message = b"The server cannot reach its storage just now; come back later."
                    await begun.close(code=WSCloseCode.TRY_AGAIN_LATER, message=message)
                else:
                    await begun.close(code=WSCloseCode.INTERNAL_ERROR, message=b"Something went wrong in the server.")
            except (ConnectionError, ClientError):
                pass
        elif request.transport is not None:
            # Half an answer must not look like a whole one.
            request.transport.abort()
        return begun

    def _educator(self, handler: Handler) -> Handler:
        async def only_educators(request: web.Request) -> web.StreamResponse:
            self.security.educator(request)
            with self.security.in_use(request):
                return await handler(request)

        return only_educators

    def _page(self, name: str) -> Handler:
        async def page(request: web.Request) -> web.StreamResponse:
            return self._pages.serve(request, name)

        return page

    def _educators_page(self, name: str) -> Handler:
        async def page(request: web.Request) -> web.StreamResponse:
            if not self.security.is_educator(request):
                return self._pages.serve(request, "shared/welcome.html", status=401)
            return self._pages.serve(request, name)

        return page

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._pages.serve(request, request.match_info["name"])

    async def _dashboard(self, request: web.Request) -> web.StreamResponse:
        """``GET /``: the dashboard; with ``?token=`` the one-use link that the program itself opens."""
        token = request.query.get("token")
        if token is None:
            return await self._educators_page("teacher/dashboard.html")(request)
        if not is_here(request):
            raise ApiError(403, "not_here", "That link works only on the computer that runs Classroom Observer.")
        if not self.security.redeem(token) and not self.security.is_educator(request):
            return self._pages.serve(request, "shared/welcome.html", status=403)
        # The token goes out of the address bar and the history; it is worth nothing any more.
        response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        self.security.start_session(request, response)
        return response

    @property
    def students_online(self) -> int:
        """How many students have a connection to this node."""
        return self._sockets.students

    def connections(self) -> dict[str, int]:
        """Open WebSockets by kind; a stranger is one that said no hello yet."""
        strangers = len(self._sockets.strangers)
        return {"student": len(self._sockets), "stranger": strangers, "dashboard": len(self.feed)}

    def _hint(self) -> str:
        """On Windows, until somebody got through: what may keep students out."""
        if not _WINDOWS or self._sockets.from_elsewhere:
            return ""
        return FIREWALL_HINT.format(port=self._network.port)

    async def _preflight(self, request: web.Request) -> web.StreamResponse:
        if not self.security.foreign_allowed(request.headers.get("Origin")):
            raise ApiError(403, "foreign_origin", "Pages of that site may not talk to this server.")
        return web.Response(status=204, headers=_CORS)

    async def _diagnostics(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/diagnostics``, for the program's own command."""
        self.machine.only_program(request)
        return await self._readings.diagnostics()

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        """``GET /healthz``: how each part of this node is, for everyone; only codes, as sentences may name files."""
        findings = self._health.findings()
        reasons = sorted({found.code for found in findings if found.severity == "critical"})
        components = dict.fromkeys(COMPONENTS, "ok")
        for found in reversed(findings):
            # The worst comes last.
            components[found.source] = "ok" if found.severity == "info" else found.severity
        saves = components["pipeline"] != "critical" and components["archive"] != "critical"
        degraded = worst(findings) in ("warning", "error")
        settings = self._settings
        return answer(
            {
                "status": "trouble" if reasons else "degraded" if degraded else "ok",
                "version": __version__,
                "node": settings.node_name,
                "kvs": settings.kvs.url.partition(":")[0],
                "pubsub": settings.pubsub.url.partition(":")[0],
                "archive": "ok" if saves else "waiting",
                "components": components,
                "reasons": reasons,
            },
            status=503 if reasons else 200,
        )

    def _online(self, student_id: str) -> bool:
        """Whether a student is connected to this node or another."""
        return self._sockets.online(student_id) or (self._nodes is not None and self._nodes.online(student_id))

    def _presence(self, class_id: str, student_id: str) -> None:
        self.feed.touch((student_id,))
        if self._nodes is not None:
            self._nodes.present(student_id, self._sockets.online(student_id))


async def _note_response(request: web.Request, response: web.StreamResponse) -> None:
    request[_RESPONSE] = response
