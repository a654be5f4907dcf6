"""Health: what is wrong with this appliance, in one form and in one registry.

`Health` has the findings of a running appliance; the dashboard, the tray, ``/healthz``, ``/metrics`` and the log read
it. The commands `check` and `verify` make findings of the same form. `codes` has every code with its sentence.
"""

from appliance.health.codes import CODES, SEVERITIES, Code, Severity
from appliance.health.finding import Finding, Param, finding, nothing, worst
from appliance.health.registry import Health

__all__ = ("CODES", "SEVERITIES", "Code", "Finding", "Health", "Param", "Severity", "finding", "nothing", "worst")
