"""Who may do what over HTTP.

`access` is what every request passes: it authenticates requests (`principal`) and checks the permission that their
route declares (`permissions`). It is made of the Host and Origin rules (`origins`), the reverse proxies in front
of this server (`proxies`), educators' `sessions`, and one-use `launch_links`. `rate_limits` bound guesses and joins;
`known_browsers` have tries of their own. `idle_connections` bounds connections that send no request.
"""

from appliance.web.security.access import Keys, Security, bearer_token
from appliance.web.security.headers import HEADERS
from appliance.web.security.idle_connections import LINGER_SECONDS, IdleConnections
from appliance.web.security.permissions import Requirement
from appliance.web.security.principal import Permission, Principal, principal_of
from appliance.web.security.proxies import client_address, is_here
from appliance.web.security.rate_limits import GuessLimit, RateLimit
from appliance.web.security.sessions import SESSION, Sessions, cookie_name

__all__ = (
    "HEADERS",
    "LINGER_SECONDS",
    "SESSION",
    "GuessLimit",
    "IdleConnections",
    "Keys",
    "Permission",
    "Principal",
    "RateLimit",
    "Requirement",
    "Security",
    "Sessions",
    "bearer_token",
    "client_address",
    "cookie_name",
    "is_here",
    "principal_of",
)
