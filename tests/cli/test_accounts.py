"""`accounts`."""

from __future__ import annotations

import io

import pytest

from appliance.roster.sqlite_file import FILE, RosterFile
from tests.cli.world import CommandLine

PASSWORD = "three brown horses"


class Accounts:
    """The command `accounts`.

    Attributes:
        out, err: what it printed last.
    """

    def __init__(self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = self.err = ""
        self._observer = observer
        self._monkeypatch = monkeypatch
        RosterFile(observer.home / "data" / "roster" / FILE).close()

    def __call__(self, command: str, *words: str, given: str = f"{PASSWORD}\n") -> int:
        """Run it with these words, and this on its standard input; returns the exit code."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code = self._observer("accounts", command, "--data-dir", self._observer.home / "data", *words)
        self.out, self.err = self._observer.out, self._observer.err
        assert PASSWORD not in self.out + self.err
        return code


@pytest.fixture
def accounts(observer: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    return Accounts(observer, monkeypatch)


def test_an_account_is_added_listed_changed_and_removed(accounts: Accounts) -> None:
    assert accounts("list") == 0
    assert "no accounts" in accounts.out
    assert accounts("add", "Ada", "--name", "Ada Lovelace", "--role", "assistant") == 0
    assert accounts("list") == 0
    assert accounts.out == "ada\tAda Lovelace\tassistant\tclasses: none\n"
    assert accounts("password", "ADA", given="another long password\r\n") == 0
    assert "signed out everywhere" in accounts.out
    assert accounts("remove", "ada") == 0
    assert accounts("remove", "ada") == 2
    assert "No account signs in with this name" in accounts.err


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (("add", "ada"), "", "standard input"),
        (("add", "ada"), "\n", "standard input"),
        (("add", "ada"), "short\n", "10 to 1000 characters"),
        (("add", "ada", "--class", "7a"), f"{PASSWORD}\n", "no such class"),
        (("password", "bo"), f"{PASSWORD}\n", "No account"),
    ],
)
def test_what_is_refused(accounts: Accounts, words: tuple[str, ...], given: str, expected: str) -> None:
    assert accounts(*words, given=given) != 0
    assert expected in accounts.err
    assert accounts("list") == 0
    assert "no accounts" in accounts.out


def test_no_flag_takes_a_password(observer: CommandLine) -> None:
    assert observer("accounts", "add", "ada", "--password", PASSWORD) == 2


def test_before_the_first_start_there_is_no_roster(observer: CommandLine) -> None:
    (observer.home / "data").mkdir()
    assert observer("accounts", "list", "--data-dir", observer.home / "data") == 2
    assert "Start Classroom Observer once" in observer.err
    assert not (observer.home / "data" / "roster").exists()
