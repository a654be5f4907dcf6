"""Educators' accounts: signing in and out, the list of sessions, pairing a further device, and the accounts themselves.

`SessionRoutes` and `AccountRoutes` have the handlers of the routes. The rules are in `appliance.roster.accounts`,
`sessions` and `pairing`; `appliance.web.security` authenticates requests.
"""

from appliance.web.accounts.account_routes import AccountRoutes
from appliance.web.accounts.session_routes import SessionRoutes

__all__ = ("AccountRoutes", "SessionRoutes")
