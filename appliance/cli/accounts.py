"""The commands ``accounts list``, ``add``, ``password`` and ``remove``, for IT staff. The program may run meanwhile.

A password is read from the standard input, since arguments are visible to all users of a computer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from appliance.cli.commands import CommandParser, Commands
from appliance.cli.options import add_data_flags, add_roster_flag, data_folder, settings_of
from appliance.errors import SettingsError

if TYPE_CHECKING:
    from appliance.roster.accounts import Accounts
    from appliance.roster.tables import Educator

_MOST_CHARACTERS = 10_000


def add(commands: Commands) -> None:
    commands.add_group("accounts", "list, add and change educators' accounts")
    _add_flags(commands.add("accounts list", _run(_list), "list the accounts"))
    adding = commands.add("accounts add", _run(_add), "add an account; its password is read from the standard input")
    _add_flags(adding)
    adding.add_argument("login", metavar="LOGIN", help="name to sign in with")
    adding.add_argument("--name", metavar="NAME", help="name to show (default: LOGIN)")
    adding.add_argument(
        "--role", choices=("administrator", "educator", "assistant"), default="educator", help="default: educator"
    )
    adding.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="ID", help="id of a class; may be repeated"
    )
    password = commands.add("accounts password", _run(_password), "set a password, read from the standard input")
    _add_flags(password)
    password.add_argument("login", metavar="LOGIN", help="name with which the account signs in")
    removing = commands.add("accounts remove", _run(_remove), "remove an account and its sessions")
    _add_flags(removing)
    removing.add_argument("login", metavar="LOGIN", help="name with which the account signs in")


def _add_flags(parser: CommandParser) -> None:
    add_data_flags(parser)
    add_roster_flag(parser)


def _run(work: Callable[[Accounts, argparse.Namespace], Awaitable[int]]) -> Callable[[argparse.Namespace], int]:
    """A command that works on the accounts of the configured roster."""

    def run(parsed: argparse.Namespace) -> int:
        import asyncio

        from appliance.counters import Counters
        from appliance.roster import open_store
        from appliance.roster.accounts import AccountLimits, Accounts
        from appliance.roster.place import RosterPlace

        settings = settings_of(parsed)
        place = RosterPlace.of(settings)
        if not place.chosen:
            data_folder(settings)
        if place.file is not None and not place.file.exists():
            # A start makes it, or moves the roster of an earlier version there.
            raise SettingsError(f"There is no roster at {place.file} yet. Start Classroom Observer once before.")

        async def with_accounts() -> int:
            store = open_store(place.url)
            try:
                return await work(Accounts(store, AccountLimits.of(settings.limits), Counters()), parsed)
            finally:
                await store.close()

        return asyncio.run(with_accounts())

    return run


async def _list(accounts: Accounts, parsed: argparse.Namespace) -> int:
    found = await accounts.all()
    for one in found:
        state = "disabled" if one.disabled else "" if one.password_hash else "no password"
        classes = "all classes" if one.role == "administrator" else f"classes: {', '.join(one.class_ids) or 'none'}"
        print("\t".join(filter(None, (one.login, one.name, one.role, classes, state))))
    if not found:
        print("There are no accounts. The owner signs in at the appliance, or with the teacher key.")
    return 0


async def _add(accounts: Accounts, parsed: argparse.Namespace) -> int:
    made = await accounts.add(
        name=parsed.name or parsed.login,
        login=parsed.login,
        role=parsed.role,
        class_ids=parsed.classes,
        password=_read_password(),
    )
    print(f"{made.login} can sign in.")
    return 0


async def _password(accounts: Accounts, parsed: argparse.Namespace) -> int:
    from appliance.roster.accounts import AccountChange

    educator = await _account(accounts, parsed.login)
    await accounts.change(educator.educator_id, AccountChange(password=_read_password()))
    print(f"{educator.login} has a new password, and is signed out everywhere.")
    return 0


async def _remove(accounts: Accounts, parsed: argparse.Namespace) -> int:
    educator = await _account(accounts, parsed.login)
    await accounts.remove(educator.educator_id)
    print(f"{educator.login} is removed, and signed out everywhere.")
    return 0


async def _account(accounts: Accounts, login: str) -> Educator:
    educator = await accounts.by_login(login)
    if educator is None:
        raise SettingsError("No account signs in with this name. 'accounts list' shows all.")
    return educator


def _read_password() -> str:
    """The first line of the standard input; at a terminal it is not shown.

    Raises:
        SettingsError: there is none.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        return getpass.getpass("Password: ")
    line = sys.stdin.readline(_MOST_CHARACTERS).rstrip("\r\n") if sys.stdin is not None else ""
    if not line:
        raise SettingsError("Write the password to the standard input, as its first line.")
    return line
