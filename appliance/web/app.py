"""The web application: it creates the handlers and holds the table of routes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from aiohttp import web

from appliance.cluster.credentials import Credentials
from appliance.config import Settings
from appliance.network.network import Network
from appliance.roster.accounts import AccountLimits, Accounts
from appliance.roster.pairing import Pairings
from appliance.roster.sessions import StoredSessions
from appliance.web.accounts import AccountRoutes, SessionRoutes
from appliance.web.educators import ClassParts, Educators, Feed, FeedLimits, StudentViews
from appliance.web.educators.roster_routes import RosterRoutes
from appliance.web.health_route import HealthRoute
from appliance.web.middleware import Middleware, note_response
from appliance.web.monitoring import ROUTE as DIAGNOSTICS
from appliance.web.monitoring import MonitoringRoutes
from appliance.web.page_routes import PageRoutes
from appliance.web.pages import installed_pages
from appliance.web.program_routes import FIREWALL_HINT, ProgramRoutes
from appliance.web.request_body import IDLE_CONNECTIONS
from appliance.web.routes import Routes
from appliance.web.security import IdleConnections, Keys, Permission, Security, Sessions
from appliance.web.services import ClassServices, Monitoring
from appliance.web.students import Admission, Conversations, Joining, OwnData, Registry, SecretTries

WINDOWS = os.name == "nt"


class WebApp:
    """All handlers of HTTP requests and WebSockets.

    Attributes:
        application: the application that aiohttp runs.
        routes: the table of routes.
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
        launch_secret = secrets.token_urlsafe(32)
        self._create_students_side(services, monitoring)
        stored = StoredSessions.of(services.roster.store, counters, limits)
        self.security = Security(
            Keys.of(credentials, launch_secret, settings.metrics.token),
            counters,
            Sessions(stored, services.hints if services.roster.store.shared else None),
            self._own_data.student_of,
            hosts=settings.web.hosts,
            origins=settings.web.origins,
            proxies=settings.web.proxies,
            announced=lambda: network.name,
        )
        accounts = Accounts(services.roster.store, AccountLimits.of(limits), counters)
        pairings = Pairings.of(services.roster.store, counters, limits)
        self._account_routes = AccountRoutes(self.security, accounts, limits, counters)
        self._session_routes = SessionRoutes(self.security, accounts, stored, pairings, network, limits, counters)
        self._monitoring = MonitoringRoutes(monitoring.metrics, services.roster, accounts)
        self._create_educators_side(services, monitoring)
        self.program_routes = ProgramRoutes(
            self.security, network, launch_secret, stop, self.educators.classes.seen_views
        )
        self.idle_connections = IdleConnections(limits, counters)
        self.application = web.Application(client_max_size=limits.body_bytes)
        self.routes = Routes(self.application)
        middleware = Middleware(self.security, self.routes, self.idle_connections, counters)
        self.application.middlewares.append(middleware.handle)
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
        self._joining = Joining(
            pipeline,
            roster,
            class_control,
            limits,
            counters,
            monitoring.health,
            self._admission,
            SecretTries(limits, counters),
        )
        self._own_data = OwnData(roster, pipeline, services.kvs, self._joining, limits.window_bytes)
        if roster.watch is not None:
            roster.watch.leaving.serve(self._online, self.registry.announce_leaving)

    def _create_educators_side(self, services: ClassServices, monitoring: Monitoring) -> None:
        settings, limits, counters = self._settings, self._settings.limits, monitoring.counters
        students = StudentViews(services.roster, services.kvs, self._online, counters)
        self.educators = Educators(
            settings,
            services,
            monitoring,
            students,
            self._network,
            online=self._online,
            hint=self._firewall_hint,
        )
        self._lists = RosterRoutes(services.roster, settings, counters)
        self.feed = Feed(
            ClassParts(students, self.educators.classes.views, self.educators.changes.requests_of),
            services.roster,
            services.hints,
            monitoring.tasks,
            counters,
            FeedLimits.of(limits),
        )
        self._network.on_change.add(self.feed.classes_changed)
        self.security.on_change.add(self.feed.principal_changed)
        services.class_control.on_changed.add(self.feed.changed_here)

    def start(self) -> None:
        """Start the tasks that serve WebSockets."""
        self.registry.start()
        self._conversations.start()
        self.feed.start()
        self.security.sessions.listen()

    async def close(self) -> None:
        """Close the WebSockets of students and dashboards."""
        await self._conversations.close()
        await self.registry.close()
        await self.feed.close()
        await self.security.sessions.close()
        self.idle_connections.close()

    def _add_api_routes(self, health: HealthRoute) -> None:
        add, joining = self.routes.add, self._joining
        add("GET", "/healthz", health.healthz, Permission.ANYONE)
        add("GET", "/metrics", self._monitoring.metrics, Permission.METRICS)
        add("POST", "/api/v1/join", joining.join, Permission.ANYONE)
        add("POST", "/api/v1/join/names", joining.names, Permission.ANYONE)
        # The token of a student who waits is nobody's yet: these two find its question.
        add("GET", "/api/v1/join/pending", joining.pending, Permission.ANYONE)
        add("POST", "/api/v1/join/cancel", joining.cancel, Permission.ANYONE)
        add("GET", "/api/v1/me", self._own_data.me, Permission.STUDENT)
        add("GET", "/api/v1/me/text", self._own_data.text, Permission.STUDENT)
        add("POST", "/api/v1/me/secret", self._own_data.set_secret, Permission.STUDENT)
        add("GET", "/ws/events", self._conversations.handle, Permission.STUDENT, later=True)
        self._add_program_routes()
        self._add_account_routes()
        self._add_educators_routes()

    def _add_program_routes(self) -> None:
        add, program = self.routes.add, self.program_routes
        add("POST", "/api/v1/launch", program.launch, Permission.PROGRAM)
        add("POST", "/api/v1/quit", program.quit, Permission.PROGRAM)
        add("POST", DIAGNOSTICS, self._monitoring.diagnostics, Permission.PROGRAM)
        add("POST", "/api/v1/address", program.address, Permission.ADMINISTER)
        add("POST", "/api/v1/stop", program.stop, Permission.ADMINISTER)
        add("GET", "/api/v1/licences", program.licences, Permission.SEE)

    def _add_account_routes(self) -> None:
        add, sessions, accounts = self.routes.add, self._session_routes, self._account_routes
        add("POST", "/api/v1/login", sessions.login, Permission.ANYONE)
        add("POST", "/api/v1/logout", sessions.logout, Permission.SEE)
        add("GET", "/api/v1/sessions", sessions.sessions, Permission.SEE)
        add("POST", "/api/v1/sessions/{id}/end", sessions.end, Permission.SEE)
        add("POST", "/api/v1/pairing", sessions.create_pairing, Permission.SEE)
        add("POST", "/api/v1/pair", sessions.pair, Permission.ANYONE)
        add("GET", "/api/v1/account", accounts.own, Permission.SEE)
        add("POST", "/api/v1/account/password", accounts.set_password, Permission.SEE)
        add("GET", "/api/v1/educators", accounts.all, Permission.ADMINISTER)
        add("POST", "/api/v1/educators", accounts.add, Permission.ADMINISTER)
        add("POST", "/api/v1/educators/{id}", accounts.change, Permission.ADMINISTER)
        add("POST", "/api/v1/educators/{id}/remove", accounts.remove, Permission.ADMINISTER)

    def _add_educators_routes(self) -> None:
        add, educators = self.routes.add, self.educators
        add("GET", "/api/v1/status", educators.status.status, Permission.SEE)
        add("GET", "/api/v1/tasks", educators.status.tasks, Permission.ADMINISTER)
        add("GET", "/api/v1/students", educators.students.list_students, Permission.SEE)
        add("GET", "/api/v1/students/{id}", educators.students.one_student, Permission.SEE)
        changes = educators.changes
        add("GET", "/api/v1/search", changes.search, Permission.SEE)
        add("GET", "/api/v1/requests", changes.list_requests, Permission.SEE)
        add("POST", "/api/v1/requests/{id}", changes.answer_request, Permission.CHANGE)
        add("POST", "/api/v1/students/{id}/rename", changes.rename, Permission.CHANGE)
        add("POST", "/api/v1/students/{id}/merge", changes.merge, Permission.CHANGE)
        add("POST", "/api/v1/students/{id}/remove", changes.remove, Permission.CHANGE)
        add("POST", "/api/v1/students/{id}/undo-remove", changes.undo_remove, Permission.CHANGE)
        add("POST", "/api/v1/students/{id}/reset-secret", changes.reset_secret, Permission.CHANGE)
        add("GET", "/api/v1/classes", educators.classes.list_classes, Permission.SEE)
        add("POST", "/api/v1/classes", educators.classes.add, Permission.ADMINISTER)
        add("GET", "/api/v1/classes/{id}/qr.svg", educators.classes.qr, Permission.SEE)
        add("POST", "/api/v1/class/pause", educators.classes.pause, Permission.CHANGE)
        add("POST", "/api/v1/class/resume", educators.classes.resume, Permission.CHANGE)
        add("POST", "/api/v1/class/message", educators.classes.message, Permission.CHANGE)
        add("POST", "/api/v1/class/change", educators.classes.change, Permission.CHANGE)
        add("POST", "/api/v1/class/remove-idle", self._admission.remove_idle, Permission.CHANGE)
        add("GET", "/ws/dashboard", self.feed.handle, Permission.SEE)
        lists = self._lists
        add("POST", "/api/v1/roster/preview", lists.preview, Permission.ADMINISTER, uploads=True)
        add("POST", "/api/v1/roster/import", lists.take, Permission.ADMINISTER)
        add("GET", "/api/v1/roster/export", lists.export, Permission.ADMINISTER)
        add("GET", "/api/v1/roster/questions", lists.questions, Permission.ADMINISTER)
        add("POST", "/api/v1/roster/questions", lists.answer, Permission.ADMINISTER)

    def _add_page_routes(self, pages: PageRoutes, middleware: Middleware) -> None:
        add = self.routes.add
        add("GET", "/", pages.dashboard, Permission.SEE, refused=pages.visitor)
        for path, name, permission in (
            ("/setup", "teacher/setup.html", Permission.SEE),
            ("/people", "teacher/people.html", Permission.SEE),
            ("/accounts", "teacher/accounts.html", Permission.SEE),
            ("/roster", "teacher/roster.html", Permission.ADMINISTER),
        ):
            add("GET", path, pages.page(name), permission, refused=pages.welcome)
        for path, name in (
            ("/join", "student/join.html"),
            ("/write", "student/write.html"),
            ("/login", "teacher/login.html"),
            ("/pair", "teacher/pair.html"),
            ("/client.js", "client.js"),
            ("/client.classic.js", "client.classic.js"),
            ("/favicon.ico", "icon.svg"),
        ):
            add("GET", path, pages.page(name), Permission.ANYONE)
        add("GET", "/static/{name:.+}", pages.static, Permission.ANYONE)
        add(
            "OPTIONS",
            "/api/v1/{name:join(?:/(?:names|pending|cancel))?|me(?:/(?:text|secret))?}",
            middleware.preflight,
            Permission.ANYONE,
        )

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

    def _online(self, student_id: str) -> bool:
        """Whether a student is connected to this node or another."""
        return self.registry.online(student_id) or (
            self._membership is not None and self._membership.online(student_id)
        )

    def _presence(self, class_id: str, student_id: str) -> None:
        self.feed.students_changed((student_id,), class_id)
        if self._membership is not None:
            self._membership.present(student_id, self.registry.online(student_id))
