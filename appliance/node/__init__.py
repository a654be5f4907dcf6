"""One appliance: opens its parts in order, serves until it is asked to stop, and closes them in reverse order."""

from appliance.node.listening import bind
from appliance.node.node import Node
from appliance.node.ready_file import Ready
from appliance.node.serving import loop_factory, serve
from appliance.node.status import Status

__all__ = ["Node", "Ready", "Status", "bind", "loop_factory", "serve"]
