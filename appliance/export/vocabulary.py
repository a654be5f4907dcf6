"""Fields and words of events for de-identification: ids, known words, and fields that concern a person.

Everything that is not named here counts as free text.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SOURCES = _words("classroom-observer.write org.mitros.writing_analytics")
"""Sources whose names reveal nothing about a person."""

EVENTS = _words("""
    answer attention characterData childList cursor document document_history document_loaded edit extension_loaded
    focus google_docs_save google_docs_save_extra google_document_history_error help keystroke mouseclick terminate
    visibility
""")
"""Known names of events: those of docs/protocol.md, and those that sources in Google Docs send."""

COMMANDS = _words("""
    ac ae as ase ast astss de ds dse dss dte is iss mefd mkch mlti msfd nm null ord ras rplc rte rue rvrt sas sl ste sue
    te ucp ue uefd umv usfd
""")
"""Types of the commands that Google Docs saves (field ``ty``)."""

IDS = {
    "document": "document",
    "doc_id": "document",
    "item": "item",
    "id": "id",
    "tab_id": "tab",
    "student_id": "student",
    "user_id": "student",
    "safe_user_id": "student",
    "class_id": "class",
    "stream": "stream",
}
"""Fields that hold ids, and the kind of each: equal ids of one kind get the same replacement."""

CHOICES = {"event": EVENTS, "ty": COMMANDS, "source": SOURCES}
"""Fields that hold one of these words."""

FIELDS = frozenset(IDS) | _words("""
    answer auth bundles bytes change changelog commands correct cursor description event focused formdata history ibi
    iso_ts keystroke length metadata mouseclick mts nmc nmr object offset partial_text position raised readyState remove
    insert rev s sc sl si ei sm snapshot source st t text timestamp title ts ty type units url visible x y
""")
"""Names of fields that reveal nothing about a person; any other name may have been typed."""

LETTERS = frozenset({"charcode", "code", "codepoint", "keycode", "which"})
"""Fields, in lower case, whose numbers are typed letters."""

PERSONAL = re.compile(r"(?i)name|user|student|pupil|mail|login|phone|birth|address|account|(^|_)ip($|_)|token|passw")
"""Names of fields whose numbers may identify a person."""
