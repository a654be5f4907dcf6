"""The section ``[limits]``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from appliance.config.option import LARGEST, Count


class LimitSettings(msgspec.Struct, frozen=True):
    """Bounds for one browser, student or class. A limit that is hit is counted and logged."""

    frame_bytes: Annotated[
        int,
        Meta(
            description="Size of one WebSocket message from a browser; a larger one closes the connection.",
            ge=1024,
            le=LARGEST,
        ),
    ] = 4194304
    events_per_frame: Annotated[
        Count, Meta(description="Events in one message; a message with more is refused with an error.")
    ] = 2000
    unacked: Annotated[
        Count,
        Meta(
            description="Events of one stream that may await acknowledgement; at more the appliance stops reading from "
            "that browser until some are acknowledged."
        ),
    ] = 1000
    event_bytes: Annotated[
        int,
        Meta(
            description="Size of one event; a larger one is archived as rejected and not reduced.", ge=256, le=LARGEST
        ),
    ] = 3145728
    event_depth: Annotated[
        int, Meta(description="Levels of nesting in one event; a deeper one is archived as rejected.", ge=2, le=500)
    ] = 64
    event_name_characters: Annotated[
        Count, Meta(description="Length of an event's name; an event with a longer one is archived as rejected.")
    ] = 200
    event_values: Annotated[
        int,
        Meta(
            description="Objects, lists and values in them that one event may hold in all; one with more is archived "
            "as rejected.",
            ge=1000,
            le=LARGEST,
        ),
    ] = 100000
    slow_frame_values: Annotated[
        int,
        Meta(
            description="Objects, lists and values in them of a message that is costly to read, such as one with half "
            "of a surrogate pair; one with more is refused with an error.",
            ge=1000,
            le=LARGEST,
        ),
    ] = 100000
    bad_frames: Annotated[
        Count, Meta(description="Messages in a row that cannot be understood, after which the connection is closed.")
    ] = 20
    hello_seconds: Annotated[
        Count,
        Meta(
            description="Seconds within which a new connection must send its hello before it is closed; the time for "
            "the answer does not count."
        ),
    ] = 10
    hello_bytes: Annotated[
        int,
        Meta(
            description="Bytes that a browser may send before its student is known; with more the connection is "
            "closed.",
            ge=1024,
            le=65536,
        ),
    ] = 4096
    opening_seconds: Annotated[
        Count,
        Meta(
            description="Seconds within which the appliance answers a hello, while its store or roster is slow; then "
            "the browser is asked to try again later."
        ),
    ] = 15
    alive_seconds: Annotated[
        Count,
        Meta(description="Seconds without another message after which a student's browser is sent an alive message."),
    ] = 5
    silent_seconds: Annotated[
        Count,
        Meta(
            description="Seconds without a sign of life after which a connection is closed and its student is offline; "
            "browsers are asked for one in time."
        ),
    ] = 20
    connections: Annotated[
        Count,
        Meta(
            description="Connections of students at this node, without those that have not sent a hello yet; further "
            "ones are refused."
        ),
    ] = 4000
    strangers: Annotated[
        Count,
        Meta(
            description="Connections that have not sent a hello yet; a further one replaces the one that has been "
            "silent for longest."
        ),
    ] = 3000
    strangers_per_address: Annotated[
        Count,
        Meta(
            description="Connections from one address, which may be that of a whole school, that have not sent a hello "
            "yet; a further one replaces the one that has been silent for longest."
        ),
    ] = 1500
    stranger_bytes_per_second: Annotated[
        Count,
        Meta(
            description="Bytes a second that all connections from one address may send before their students are "
            "known; at more they wait."
        ),
    ] = 262144
    stranger_burst_bytes: Annotated[
        Count, Meta(description="Bytes that connections from one address may send at once before that rate applies.")
    ] = 4194304
    student_bytes_per_second: Annotated[
        Count,
        Meta(
            description="Bytes a second that one student may send over all connections; at more they are not read "
            "until the rate is lower."
        ),
    ] = 262144
    student_burst_bytes: Annotated[
        Count,
        Meta(
            description="Bytes that one student may send at once before that rate applies, such as work that was done "
            "offline."
        ),
    ] = 16777216
    student_work: Annotated[
        int,
        Meta(
            description="Share of the program's time, in percent, that one student's messages may take; at more that "
            "student's connections are not read until the share is lower.",
            ge=1,
            le=100,
        ),
    ] = 10
    student_work_burst_ms: Annotated[
        Count,
        Meta(
            description="Milliseconds of the program's time that one student's messages may take at once before that "
            "share applies."
        ),
    ] = 500
    student_buffer_bytes: Annotated[
        int,
        Meta(
            description="Bytes of one student, over all streams, that may wait to be saved; at more that student's "
            "connections are not read until some are saved.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 8388608
    connections_per_student: Annotated[
        Count, Meta(description="Connections of one student, such as open tabs; further ones are refused.")
    ] = 10
    node_silent_seconds: Annotated[
        int,
        Meta(
            description="Seconds without a sign of life after which another node counts as gone, and its students as "
            "offline.",
            ge=3,
            le=3600,
        ),
    ] = 15
    dashboards: Annotated[Count, Meta(description="Dashboards open at this node; further ones are refused.")] = 50
    dashboard_updates_per_second: Annotated[
        int,
        Meta(description="Updates a second that one dashboard gets; changes between two are merged.", ge=1, le=10),
    ] = 10
    students_per_class: Annotated[
        Count, Meta(description="Students in one class; further ones cannot join and read that the class is full.")
    ] = 1000
    tokens_per_student: Annotated[
        Count,
        Meta(description="Browsers in which one student stays joined; a further one signs the oldest out."),
    ] = 20
    student_name_characters: Annotated[
        Count, Meta(description="Length of a student's name; a longer one is refused when joining.")
    ] = 80
    roster_file_bytes: Annotated[
        Count, Meta(description="Length of classes.csv and of students.csv; a longer list is not read, and reported.")
    ] = 10 * 1024 * 1024
    roster_previews: Annotated[
        Count, Meta(description="Previews of lists that wait for their import; a further one replaces the oldest.")
    ] = 5
    roster_preview_seconds: Annotated[
        Count, Meta(description="Seconds after which the preview of a list is deleted.")
    ] = 1800
    upload_seconds: Annotated[
        Count, Meta(description="Seconds within which a list that is sent for a preview must arrive.")
    ] = 60
    streams_per_student: Annotated[
        Count,
        Meta(
            description="Streams (tabs ever opened) of one student; a further one is refused and its events stay in "
            "the browser."
        ),
    ] = 2000
    scope_values: Annotated[
        Count,
        Meta(
            description="Documents or items per student and reducer; events of further ones are archived, not reduced."
        ),
    ] = 500
    scope_characters: Annotated[
        Count,
        Meta(description="Length of a document's or item's name; events with a longer one are archived, not reduced."),
    ] = 300
    state_bytes: Annotated[
        int,
        Meta(
            description="Size of one state of a reducer as it is stored; instead of a larger one the last smaller "
            "state is kept, and the reducer is reported.",
            ge=1024,
            le=LARGEST,
        ),
    ] = 33554432
    summary_bytes: Annotated[
        int,
        Meta(
            description="Size of the summary that one reducer gives of one student; instead of a larger one the last "
            "smaller summary is shown, and the reducer is reported.",
            ge=256,
            le=LARGEST,
        ),
    ] = 65536
    window_bytes: Annotated[
        int,
        Meta(
            description="Size of all texts and answers of one student that a teacher is shown at once; beyond it the "
            "largest documents are left out, and their number is shown.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 16777216
    student_state_bytes: Annotated[
        int,
        Meta(
            description="Size of all texts, documents and answers that are kept of one student; anything beyond is "
            "archived but not shown, and the student's tile says so.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 67108864
    join_tries: Annotated[
        Count,
        Meta(
            description="Wrong join codes per device and minute; further ones are answered with a time to wait, and "
            "the right code is always taken, since others may use the same address."
        ),
    ] = 20
    address_join_tries: Annotated[
        Count, Meta(description="Wrong join codes per address and minute, of all its devices together; as above.")
    ] = 200
    all_join_tries: Annotated[
        Count,
        Meta(
            description="Wrong join codes an hour from everywhere together; beyond it all codes are compared one after "
            "the other, 20 a second, and a finding says so."
        ),
    ] = 50_000
    secret_tries: Annotated[
        Count,
        Meta(
            description="Wrong PINs or picture passwords of one student within an hour; then only a teacher can let "
            "the student in from another device."
        ),
    ] = 10
    address_secret_tries: Annotated[
        Count, Meta(description="Wrong PINs and picture passwords per address and minute; further tries must wait.")
    ] = 60
    join_requests: Annotated[
        Count,
        Meta(description="Students of one class who wait for a teacher's yes; further ones must ask the teacher."),
    ] = 100
    address_join_requests: Annotated[
        Count,
        Meta(description="Students who wait for a teacher's yes, per address; further ones must ask the teacher."),
    ] = 60
    join_request_seconds: Annotated[
        int, Meta(description="Seconds for which a student waits for a teacher's yes.", ge=60, le=86400)
    ] = 1800
    joins_per_minute: Annotated[
        Count,
        Meta(
            description="Joins of one class within a minute, of which 300 may come at once; then they wait in line for "
            "some seconds, and further ones are refused for a moment."
        ),
    ] = 2400
    address_joins_per_minute: Annotated[
        Count,
        Meta(
            description="Joins within a minute from one address, which may be that of a whole school; further ones "
            "wait as above."
        ),
    ] = 4800
    login_tries: Annotated[
        Count, Meta(description="Wrong teacher logins per address and minute; further tries must wait.")
    ] = 10
    account_tries: Annotated[
        Count,
        Meta(
            description="Wrong passwords for one account in a minute, from browsers in which it never signed in; "
            "further tries must wait, and other browsers have as many tries each."
        ),
    ] = 30
    accounts: Annotated[Count, Meta(description="Accounts of educators; a further one is refused.")] = 5000
    account_sessions: Annotated[
        Count,
        Meta(description="Browsers in which one educator stays signed in; a further one signs the oldest out."),
    ] = 20
    session_seconds: Annotated[
        int,
        Meta(description="Seconds after which an educator must sign in again.", ge=60, le=43200),
    ] = 43200
    password_characters: Annotated[
        int, Meta(description="Length of the shortest password of an educator; a shorter one is refused.", ge=8, le=64)
    ] = 10
    passwords_at_once: Annotated[
        int,
        Meta(
            description="Passwords that are checked at a time, 19 MiB and a processor each; 20 times as many may wait, "
            "and further ones are asked to try again.",
            ge=1,
            le=64,
        ),
    ] = 2
    pairing_tries: Annotated[
        int,
        Meta(description="Wrong pairing codes, from all devices together, after which a code ends.", ge=1, le=20),
    ] = 5
    pairing_seconds: Annotated[
        int, Meta(description="Seconds for which a pairing code can be used.", ge=10, le=600)
    ] = 180
    message_characters: Annotated[
        Count, Meta(description="Length of a teacher's message to students; a longer one is refused.")
    ] = 1000
    body_bytes: Annotated[
        int, Meta(description="Size of the body of an HTTP request; a larger one is refused.", ge=1024, le=LARGEST)
    ] = 65536
    request_seconds: Annotated[
        int,
        Meta(
            description="Seconds within which a connection must send a whole HTTP request before it is closed.",
            ge=1,
            le=3600,
        ),
    ] = 20
    idle_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a connection stays open after a request if no other follows.",
            ge=1,
            le=86400,
        ),
    ] = 75
    waiting_connections: Annotated[
        Count,
        Meta(
            description="Connections that have not sent a whole HTTP request, or stay open after one; at more, the "
            "longest waiting one of the address with the most of them is closed."
        ),
    ] = 1000
    reserved_files: Annotated[
        int,
        Meta(
            description="Open files, at most a quarter of the system's limit, that are reserved for the archive and "
            "snapshots; a connection that would need one of them is closed.",
            ge=0,
            le=LARGEST,
        ),
    ] = 64
    send_buffer_bytes: Annotated[
        int,
        Meta(
            description="Bytes that may wait for one slow reader; at more nothing is sent until it has caught up, and "
            "then the newest state.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 1048576
    stuck_dashboard_seconds: Annotated[
        Count,
        Meta(description="Seconds after which a dashboard that reads none of the data that wait for it is closed."),
    ] = 60
    loop_blocked_ms: Annotated[
        int,
        Meta(
            description="Milliseconds for which the event loop may be blocked before the log says where; three times "
            "in ten minutes are a problem that the dashboard shows.",
            ge=50,
            le=60000,
        ),
    ] = 250
