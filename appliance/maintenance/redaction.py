"""Redaction: takes what is private out of texts that leave this computer.

Three rules, most of which would do alone: only lines of the log whose form and origin are known are kept; what is known
to be private (secrets, ids and names of students) is replaced everywhere; and so is what has the form of a secret (URLs
with passwords, long tokens, join codes).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from appliance.config import redact

HIDDEN = "***"
_LEAST = 3
"""Shorter ids, names and parts of names occur in every text by chance, and identify nobody."""
_WITHIN_WORDS = 5
"""A secret of this length is replaced within other words too."""
_LEAST_DIGITS = 6
"""A shorter number is an id in some schools, and a number in every text."""

# As `secrets` makes them; a metric has a name as long, but not of all these letters.
_TOKEN = re.compile(
    r"(?<![\w-])(?:(?=[\w-]*[0-9])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[A-Za-z0-9_-]{40,}|[0-9a-f]{40,})(?![\w-])", re.ASCII
)
_CODE = re.compile(r"(?<![\w-])[A-Z]{3}-\d{3}(?![\w-])")
_URL_PASSWORD = re.compile(r"://[^:@/?#]*:(.*)@", re.DOTALL)
_QUERY_SECRET = re.compile(r"(?i)[?&][^=&]*(?:pass|pwd|token|secret)[^=&]*=([^&#]*)")

_WORD = re.compile(r"\w+")
_AROUND = re.compile(r"^\W+|\W+$")
_BETWEEN = re.compile("[\\s,.'\u2019-]+")
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ *)([\w.]+): (.*)")
# An exception's kind and places, as `appliance.logs` and Python's faulthandler write them.
_PLACE = re.compile(r'  File "[^"]*", line \d+,? in [\w<>.]+|[\w.]+, raised at:|(Current t|T)hread 0x[0-9a-f]+.*:')
_OURS = ("appliance", "classroom_observer")


def secrets_of(url: str) -> Iterator[str]:
    """The passwords and tokens in a URL, as they are written there and decoded."""
    for found in (*_URL_PASSWORD.findall(url), *_QUERY_SECRET.findall(url)):
        if found:
            yield found
            yield unquote(found)


class Redaction:
    """Replaces what is private in texts."""

    def __init__(self, secrets: Iterable[str], people: Iterable[str]) -> None:
        """Args:
        secrets: passwords and tokens; replaced everywhere.
        people: ids and names of students; replaced where they are whole words, and each part of a name too.
        """
        hidden = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        # A short one occurs in other words by chance.
        known = "|".join(
            re.escape(one) if len(one) >= _WITHIN_WORDS else rf"(?<!\w){re.escape(one)}(?!\w)" for one in hidden
        )
        self._secrets = re.compile(known) if known else None
        self._people: dict[str, list[str]] = {}
        """Folded ids, names and parts of names by their first word, the longest first."""
        for word in sorted(set(_words_of(people)), key=len, reverse=True):
            if first := _WORD.search(word):
                self._people.setdefault(first[0], []).append(word)

    def text(self, text: str) -> str:
        """The text without what is private."""
        text = unicodedata.normalize("NFC", text)
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        text = "\n".join(redact(self._without_people(line)) for line in text.split("\n"))
        return _CODE.sub(HIDDEN, _TOKEN.sub(HIDDEN, text))

    def _without_people(self, line: str) -> str:
        """A line without ids and names; a word costs one dictionary access, however many students there are."""
        folded = line.lower() if line.isascii() else "".join(map(_folded, line))
        pieces, done = [], 0
        for found in _WORD.finditer(folded):
            start = found.start()
            for word in self._people.get(found[0], ()) if start >= done else ():
                end = start + len(word)
                if folded.startswith(word, start) and not _WORD.match(folded, end):
                    pieces += [line[done:start], HIDDEN]
                    done = end
                    break
        return "".join(pieces) + line[done:]

    def log(self, text: str) -> str:
        """Lines of a log: this program's without what is private; of others only time, level and logger."""
        return self.text("\n".join(_known_lines(text)))


def _known_lines(text: str) -> Iterator[str]:
    left_out = 0
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None and _PLACE.fullmatch(line) is None:
            left_out += 1
            continue
        if left_out:
            yield f"({left_out} left out that are no lines of the log)"
            left_out = 0
        if found is None or found[2].partition(".")[0] in _OURS:
            yield line
        else:
            yield f"{found[1]}{found[2]}: (words of another library, left out)"
    if left_out:
        yield f"({left_out} left out that are no lines of the log)"


def _words_of(people: Iterable[str]) -> Iterator[str]:
    """The words to search for: ids and names, and parts of names, folded letter by letter."""
    for person in people:
        whole = "".join(map(_folded, unicodedata.normalize("NFC", person).strip()))
        parts = [part for part in _BETWEEN.split(whole) if part]
        for word in (whole, *parts):
            # The signs before the first and after the last letter may differ, as in "L." and "L,".
            bare = _AROUND.sub("", word)
            if len(bare) >= (_LEAST_DIGITS if bare.isdecimal() else _LEAST):
                yield bare


def _folded(letter: str) -> str:
    """A letter in the form that ignores case, if that form is one letter too."""
    folded = letter.casefold()
    return folded if len(folded) == 1 else letter
