"""What the desktop needs of the program that it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance.listeners import Listeners


class Status(Protocol):
    """The status of the appliance at one moment (`appliance.node.Status`)."""

    @property
    def students(self) -> int:
        """How many are online."""

    @property
    def paused(self) -> bool:
        """Whether every class is paused."""

    @property
    def findings(self) -> int:
        """How many findings need attention."""

    @property
    def worst(self) -> str:
        """The severity of the worst of them; ``ok`` where there is none."""

    @property
    def sentence(self) -> str:
        """The text of the worst of them; "" where there is none."""

    @property
    def join_url(self) -> str:
        """Where students join."""

    @property
    def code(self) -> str:
        """The code they type; "" where each of several classes has its own."""


class Program(Protocol):
    """The running program (`appliance.program.process.Program`). No method waits for the appliance."""

    @property
    def status(self) -> Status | None:
        """The last status; None while the appliance starts."""

    @property
    def on_status(self) -> Listeners[[]]:
        """Called when `status` has changed, from another thread."""

    @property
    def on_quit(self) -> Listeners[[]]:
        """Called when the program begins to end, from another thread."""

    @property
    def quitting(self) -> bool:
        """Whether the program has begun to end."""

    def with_dashboard_link(self, use: Callable[[str], None]) -> None:
        """Call `use`, from another thread, with a link that opens the dashboard once, signed in."""

    def set_paused(self, paused: bool) -> None:
        """Pause every class, or resume every class."""

    def quit(self) -> None:
        """Begin the orderly end of the program."""
