"""Archive: the append-only log of every event that was taken, as it came. Replaying it gives every state.

One event is one line of UTF-8 JSON (`appliance.archive.records`). Lines go to segments: files named
``events-DAY-NUMBER.jsonl``, by UTC day (`appliance.archive.segments`). A new segment begins with each day, each start
of the program, each failed write, and when one has reached its size; so a file that a power cut tore is never written
to again. A line counts as archived when `Archive.sync` returns. Closed segments are compressed. The lines of each write
end with a checksum that names the write before it, over all segments (`appliance.archive.chain`).

==================  =================================================
module              job
==================  =================================================
``records``         a line: its fields, writing it, parsing it
``chain``           the checksum that ends each commit group
``segments``        the files of a folder, their order and lengths
``ends``            first and last groups, where written lines end
``writing``         append, sync
``unsynced``        what a failed sync may have lost
``torn_lines``      half a last line, an unfinished last group
``groups``          a text, split at the ends of groups
``checking``        the lines that checksums prove, and damage
``links``           which breaks of the chain markers explain
``head``            the head of the chain, in words
``file_checks``     empty files, two files with one number
``members``         the parts of a compressed segment
``compression``     closed segments become gzip files of members
``index``           which students and times are in which part
``indexing``        builds an index
``index_files``     verify and erase of indexes
``search``          lines of one student or of a span of time
``moving``          segments to another folder and back
``markers``         what was moved, returned, deleted, erased
``reading``         lines of a folder from a position on, or of files
``merge``           archives of several nodes as one sequence
``gaps``            missing numbers, and which were accepted
``event_filter``    which events a command takes
``rewriting``       a segment without some lines, with a right chain
``stored_files``    backup, verify and erase of all this
==================  =================================================
"""

from appliance.archive.reading import Reader, lines
from appliance.archive.records import Damage, Line, Record, Rejection, StreamLines
from appliance.archive.search import read
from appliance.archive.segments import BEGINNING, Position, misplaced_folders, numbered_segments, segments
from appliance.archive.writing import RELAXED_SECONDS, Archive, Sync

__all__ = [
    "BEGINNING",
    "RELAXED_SECONDS",
    "Archive",
    "Damage",
    "Line",
    "Position",
    "Reader",
    "Record",
    "Rejection",
    "StreamLines",
    "Sync",
    "lines",
    "misplaced_folders",
    "numbered_segments",
    "read",
    "segments",
]
