"""The students' side: joining a class, and the WebSockets on which events stream in.

`joining` gives a token for a code and a name. `registry` has the sockets of all students, whatever protocol they speak;
`connection`, `strangers` and `sockets` are what it is made of, `budget` what each student may take. `conversation` is
the native protocol.
"""

from appliance.web.students.conversation import Conversations
from appliance.web.students.joining import Joining
from appliance.web.students.registry import Registry

__all__ = ("Conversations", "Joining", "Registry")
