"""The educators' side: what dashboards show, and what an educator can do to a class.

`Educators` has the handlers of the routes, one object for each group of them; `visibility` is which classes and
students a request may see. `feed` sends dashboards what changed, by a `channel` for each class: `class_parts` reads and
encodes it once, `frames` puts the frames together, and `dashboard` is one open socket. `student_views` reads students
as `views` describes them.
"""

from appliance.web.educators.class_parts import ClassParts
from appliance.web.educators.educators import Educators
from appliance.web.educators.feed import Feed, FeedLimits
from appliance.web.educators.student_views import StudentViews
from appliance.web.educators.views import ClassView, StudentView

__all__ = ("ClassParts", "ClassView", "Educators", "Feed", "FeedLimits", "StudentView", "StudentViews")
