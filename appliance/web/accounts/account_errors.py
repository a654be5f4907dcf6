"""Errors of accounts as answers to requests."""

from __future__ import annotations

from appliance.roster.accounts import AccountError
from appliance.roster.passwords import BusyError
from appliance.web.errors import ApiError

_STATUS = {
    "wrong_password": 401,
    "disabled": 403,
    "unknown_educator": 404,
    "unknown_class": 404,
    "login_taken": 409,
    "accounts_full": 409,
}
_BUSY_SECONDS = 3


def as_api_error(error: AccountError | BusyError) -> ApiError:
    """The answer to a request whose account cannot be used or changed so."""
    if isinstance(error, BusyError):
        return ApiError(503, "busy", str(error), {"Retry-After": str(_BUSY_SECONDS)})
    return ApiError(_STATUS.get(error.code, 400), error.code, str(error))
