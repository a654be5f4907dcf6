"""One-use links with which the program opens the dashboard in a browser on its own computer."""

from __future__ import annotations

import secrets
from collections import OrderedDict

_TOKENS_MOST = 20


class LaunchLinks:
    """The tokens of links that were not used yet; only the newest few are valid."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, None] = OrderedDict()

    def create(self) -> str:
        """A new token, for one visit of the dashboard."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = None
        while len(self._tokens) > _TOKENS_MOST:
            self._tokens.popitem(last=False)
        return token

    def redeem(self, token: str) -> bool:
        """Use up a token; False if it was never created, was used already or is too old."""
        return self._tokens.pop(token, self) is None
