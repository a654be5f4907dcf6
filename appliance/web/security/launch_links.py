"""One-use links with which the program opens the dashboard in a browser on its own computer."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Literal

from appliance.roster.sessions import session_hash

_TOKENS_MOST = 20
_USED_MOST = 200

Redeemed = Literal["valid", "used", "unknown"]


class LaunchLinks:
    """The tokens of links. Only the newest few are valid; those before them count as used."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, None] = OrderedDict()
        # By hash: a link that was used need not be kept.
        self._used: OrderedDict[str, None] = OrderedDict()

    def create(self) -> str:
        """A new token, for one visit of the dashboard."""
        token = secrets.token_urlsafe(24)
        self._tokens[session_hash(token)] = None
        while len(self._tokens) > _TOKENS_MOST:
            self._note_used(self._tokens.popitem(last=False)[0])
        return token

    def redeem(self, token: str) -> Redeemed:
        """Use up a token; says whether it was valid, was used before, or was never made since the program started."""
        name = session_hash(token)
        if self._tokens.pop(name, self) is None:
            self._note_used(name)
            return "valid"
        return "used" if name in self._used else "unknown"

    def _note_used(self, name: str) -> None:
        self._used[name] = None
        while len(self._used) > _USED_MOST:
            self._used.popitem(last=False)
