"""The students' side: joining a class, and the WebSockets on which events stream in.

`joining` gives a token for a code and a name, at the rate that `admission` and `join_limits` allow; `own_data` is what
a page asks about its student. `registry` has the WebSockets of all students, of any protocol. A connection begins as a
`handshake`, counted as `unauthenticated`, with `input_limits`; once its student is known it is a `connection`, with the
student's `budget`. `conversation` is the native protocol, with the frames of `protocol`.
"""

from appliance.web.students.admission import Admission
from appliance.web.students.conversation import Conversations
from appliance.web.students.join_limits import SecretTries
from appliance.web.students.joining import Joining
from appliance.web.students.own_data import OwnData
from appliance.web.students.registry import Registry

__all__ = ("Admission", "Conversations", "Joining", "OwnData", "Registry", "SecretTries")
