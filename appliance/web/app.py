"""The web application: it creates the handlers and holds the table of routes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from aiohttp import web

from appliance.cluster.credentials import Credentials
from appliance.config import Settings
from appliance.network.network import Network
from appliance.web.educators import ClassParts, Educators, Feed, FeedLimits, StudentViews
from appliance.web.educators.class_parts import no_requests
from appliance.web.health_route import HealthRoute
from appliance.web.middleware import Handler, Middleware, note_response
from appliance.web.monitoring import ROUTE as DIAGNOSTICS
from appliance.web.monitoring import MonitoringRoutes
from appliance.web.page_routes import PageRoutes
from appliance.web.pages import installed_pages
from appliance.web.program_routes import FIREWALL_HINT, ProgramRoutes
from appliance.web.request_body import IDLE_CONNECTIONS
from appliance.web.security import IdleConnections, Security, SignedOut
from appliance.web.security.principal import OWNER, PRINCIPAL
from appliance.web.services import ClassServices, Monitoring
from appliance.web.students import Admission, Conversations, Joining, Registry

WINDOWS = os.name == "nt"


class WebApp:
    """All handlers of HTTP requests and WebSockets.

    Attributes:
        application: the application that aiohttp runs.
        security: the security rules; it creates launch links.
        educators: the educators' routes.
        program_routes: the routes of the program; they have the secret of this run.
        registry: the WebSockets of students.
        feed: the updates for dashboards.
        idle_connections: bounds connections without a request.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        services: ClassServices,
        monitoring: Monitoring,
        network: Network,
        stop: Callable[[], None],
    ) -> None:
        """Connect the routes to the rest of the appliance; nothing listens yet.

        Args:
            settings: of the node.
            credentials: what educators must show.
            services: classes, students and their states.
            monitoring: what watches this node.
            network: the addresses of this computer.
            stop: ends the program.

        Raises:
            SettingsError: the pages are missing.
        """
        limits = settings.limits
        counters = monitoring.counters
        self._settings = settings
        self._network = network
        self._membership = services.membership
        self.security = Security(
            credentials,
            counters,
            SignedOut(settings.data_path),
            hosts=settings.web.hosts,
            origins=settings.web.origins,
            proxies=settings.web.proxies,
            announced=lambda: network.name,
        )
        self._monitoring = MonitoringRoutes(
            self.security, monitoring.metrics, services.roster, settings.metrics.token, counters
        )
        self._create_students_side(services, monitoring)
        self._create_educators_side(services, monitoring)
        self.program_routes = ProgramRoutes(
            self.security, network, secrets.token_urlsafe(32), stop, self.educators.classes.seen_views
        )
        self.idle_connections = IdleConnections(limits, counters)
        middleware = Middleware(self.security, self.idle_connections, counters)
        self.application = web.Application(middlewares=[middleware.handle], client_max_size=limits.body_bytes)
        self.application.on_response_prepare.append(note_response)
        self.application[IDLE_CONNECTIONS] = self.idle_connections
        self._add_api_routes(HealthRoute(settings, monitoring.health))
        self._add_page_routes(PageRoutes(installed_pages(), self.security), middleware)

    def _create_students_side(self, services: ClassServices, monitoring: Monitoring) -> None:
        settings, limits, counters = self._settings, self._settings.limits, monitoring.counters
        roster, class_control, pipeline = services.roster, services.class_control, services.pipeline
        self.registry = Registry(pipeline, class_control, limits, counters, monitoring.health, monitoring.tasks)
        self.registry.on_presence.add(self._presence)
        self._conversations = Conversations(
            self.registry, pipeline, roster, class_control, settings, counters, monitoring.tasks
        )
        self._admission = Admission(roster, services.kvs, pipeline, class_control, self._online, limits, counters)
        self._joining = Joining(pipeline, roster, class_control, settings, counters, self._admission)

    def _create_educators_side(self, services: ClassServices, monitoring: Monitoring) -> None:
        settings, limits, counters = self._settings, self._settings.limits, monitoring.counters
        students = StudentViews(services.roster, services.kvs, self._online, counters)
        self.educators = Educators(
            settings,
            services,
            monitoring,
            self.security,
            students,
            self._network,
            online=self._online,
            hint=self._firewall_hint,
        )
        self.feed = Feed(
            ClassParts(students, self.educators.classes.views, no_requests),
            services.roster,
            services.hints,
            monitoring.tasks,
            counters,
            FeedLimits.of(limits),
        )
        self._network.on_change.add(self.feed.classes_changed)
        services.class_control.on_changed.add(self.feed.changed_here)

    def start(self) -> None:
        """Start the tasks that serve WebSockets."""
        self.registry.start()
        self._conversations.start()
        self.feed.start()

    async def close(self) -> None:
        """Close the WebSockets of students and dashboards."""
        await self._conversations.close()
        await self.registry.close()
        await self.feed.close()
        self.idle_connections.close()

    def _add_api_routes(self, health: HealthRoute) -> None:
        route = self.application.router.add_route
        educator = self._educator
        educators, joining = self.educators, self._joining
        route("GET", "/healthz", health.healthz)
        route("GET", "/metrics", self._monitoring.metrics)
        route("POST", "/api/v1/join", joining.join)
        route("GET", "/api/v1/me", joining.me)
        route("GET", "/ws/events", self._conversations.handle)
        route("POST", "/api/v1/login", educators.session.login)
        route("POST", "/api/v1/logout", educator(educators.session.logout))
        route("GET", "/api/v1/status", educator(educators.status.status))
        route("GET", "/api/v1/tasks", educator(educators.status.tasks))
        route("GET", "/api/v1/students", educator(educators.students.list_students))
        route("GET", "/api/v1/students/{id}", educator(educators.students.one_student))
        route("POST", "/api/v1/students/{id}/remove", educator(educators.students.remove_student))
        route("GET", "/api/v1/classes", educator(educators.classes.list_classes))
        route("GET", "/api/v1/classes/{id}/qr.svg", educator(educators.classes.qr))
        route("POST", "/api/v1/launch", self.program_routes.launch)
        route("POST", "/api/v1/quit", self.program_routes.quit)
        route("POST", DIAGNOSTICS, self._diagnostics)
        route("POST", "/api/v1/address", educator(self.program_routes.address))
        route("POST", "/api/v1/stop", educator(self.program_routes.stop))
        route("GET", "/api/v1/licences", educator(self.program_routes.licences))
        route("POST", "/api/v1/class/pause", educator(educators.classes.pause))
        route("POST", "/api/v1/class/resume", educator(educators.classes.resume))
        route("POST", "/api/v1/class/message", educator(educators.classes.message))
        route("POST", "/api/v1/class/change", educator(educators.classes.change))
        route("POST", "/api/v1/class/remove-idle", educator(self._admission.remove_idle))
        route("GET", "/ws/dashboard", educator(self.feed.handle))

    def _add_page_routes(self, pages: PageRoutes, middleware: Middleware) -> None:
        route = self.application.router.add_route
        route("GET", "/", pages.dashboard)
        route("GET", "/setup", pages.educators_page("teacher/setup.html"))
        for path, name in (
            ("/join", "student/join.html"),
            ("/write", "student/write.html"),
            ("/login", "teacher/login.html"),
            ("/client.js", "client.js"),
            ("/client.classic.js", "client.classic.js"),
            ("/favicon.ico", "icon.svg"),
        ):
            route("GET", path, pages.page(name))
        route("GET", "/static/{name:.+}", pages.static)
        route("OPTIONS", "/api/v1/{name:join|me}", middleware.preflight)

    def _educator(self, handler: Handler) -> Handler:
        """A handler that only educators reach."""

        async def only_educators(request: web.Request) -> web.StreamResponse:
            self.security.require_educator(request)
            request[PRINCIPAL] = OWNER
            with self.security.sessions.in_use(request):
                return await handler(request)

        return only_educators

    @property
    def students_online(self) -> int:
        """How many students have a connection to this node."""
        return self.registry.students

    def connections(self) -> dict[str, int]:
        """Open WebSockets by kind; a stranger is one that is not authenticated yet."""
        unauthenticated = len(self.registry.unauthenticated)
        return {"student": len(self.registry), "stranger": unauthenticated, "dashboard": len(self.feed)}

    def _firewall_hint(self) -> str:
        """On Windows, until a student connected from another computer: how to open the firewall; else ""."""
        if not WINDOWS or self.registry.from_elsewhere:
            return ""
        return FIREWALL_HINT.format(port=self._network.port)

    async def _diagnostics(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/diagnostics``, for the command ``diagnostics``."""
        self.program_routes.only_program(request)
        return await self._monitoring.diagnostics()

    def _online(self, student_id: str) -> bool:
        """Whether a student is connected to this node or another."""
        return self.registry.online(student_id) or (
            self._membership is not None and self._membership.online(student_id)
        )

    def _presence(self, class_id: str, student_id: str) -> None:
        self.feed.students_changed((student_id,), class_id)
        if self._membership is not None:
            self._membership.present(student_id, self.registry.online(student_id))
