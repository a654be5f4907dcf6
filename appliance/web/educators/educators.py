"""The handlers of the educators' routes, in groups."""

from __future__ import annotations

from collections.abc import Callable

from appliance.config import Settings
from appliance.network.network import Network
from appliance.web.educators.class_routes import ClassRoutes
from appliance.web.educators.status_routes import StatusRoutes
from appliance.web.educators.student_changes import StudentChanges
from appliance.web.educators.student_routes import StudentRoutes
from appliance.web.educators.student_views import StudentViews
from appliance.web.services import ClassServices, Monitoring


class Educators:
    """Handlers of the educators' routes.

    Attributes:
        classes: classes as a whole.
        students: one student, or all.
        changes: what changes students, and who waits for an answer.
        status: the state of the appliance.
    """

    def __init__(
        self,
        settings: Settings,
        services: ClassServices,
        monitoring: Monitoring,
        students: StudentViews,
        network: Network,
        *,
        online: Callable[[str], bool],
        hint: Callable[[], str],
    ) -> None:
        """Args:
        settings: of the node.
        services: classes, students and their states.
        monitoring: the content of the status.
        students: reads students as dashboards show them.
        network: the addresses of this computer.
        online: whether the student of an id is connected, to any node.
        hint: what may keep students from connecting, for the join panel; "" if nothing is known.
        """
        limits, counters = settings.limits, monitoring.counters
        self.classes = ClassRoutes(
            services.roster,
            services.class_control,
            network,
            counters,
            online=online,
            hint=hint,
            message_characters=limits.message_characters,
        )
        self.changes = StudentChanges(services.roster, services.class_control, services.merge)
        self.students = StudentRoutes(
            services, students, self.changes.removed_students, window_bytes=limits.window_bytes
        )
        self.status = StatusRoutes(settings.node_name, services.catalog, monitoring, services.roster)
