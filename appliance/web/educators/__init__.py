"""The educators' side: what dashboards show, and what an educator can do to a class.

`Educators` has the handlers of the routes, one object for each group of them. `feed` sends dashboards what changed;
`dashboard` is one of them. `student_views` reads students as `views` describes them.
"""

from appliance.web.educators.educators import Educators
from appliance.web.educators.feed import Feed, FeedLimits
from appliance.web.educators.student_views import StudentViews
from appliance.web.educators.views import ClassView, StudentView

__all__ = ("ClassView", "Educators", "Feed", "FeedLimits", "StudentView", "StudentViews")
