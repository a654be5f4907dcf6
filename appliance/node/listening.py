"""Listening sockets: bound before anything else starts, so that a port in use is an error at once."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
from pathlib import Path

from appliance.errors import PortInUseError, SettingsError

_IN_USE = (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1), getattr(errno, "WSAEACCES", -1))
# The state of a listening socket in /proc/net/tcp.
_LISTEN = "0A"


def bind(host: str, port: int, *, share: bool = False, listen: bool = True) -> socket.socket:
    """Open a listening socket.

    Args:
        host: the address.
        port: the port; 0 for any free one.
        share: whether other processes of this program listen there too (Linux).
        listen: False only reserves the port.

    Raises:
        PortInUseError: another program listens there.
        SettingsError: the address or the port cannot be used.
    """
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise SettingsError(f"web.host: {host!r} is not an address of this computer.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            # All addresses of IPv4 too, whatever the system's own default is.
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        if listen:
            listener.listen(1024)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach what listens at an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _explained(error: OSError, host: str, port: int) -> PortInUseError | SettingsError:
    """Why a socket could not be bound, and what to do about it."""
    if error.errno in _IN_USE:
        return PortInUseError(
            f"Port {port} is in use by {_program_on(port) or 'another program'}. End it, or choose another port with "
            "--port."
        )
    if error.errno == errno.EACCES:
        return SettingsError(f"Port {port} may not be used without administrator rights; choose one above 1023.")
    return SettingsError(f"web.host: the program cannot listen on {host} port {port}: {error.strerror}.")


def _program_on(port: int) -> str | None:
    """Name and id of the process that listens on a TCP port; None where the system does not say (other than Linux)."""
    try:
        listening = {
            f"socket:[{fields[9]}]"
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for fields in map(str.split, Path(table).read_text().splitlines()[1:])
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
        }
        for process in Path("/proc").glob("[0-9]*"):
            # Other users' processes may not be read.
            with contextlib.suppress(OSError):
                if any(str(link.readlink()) in listening for link in (process / "fd").iterdir()):
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    except (OSError, ValueError, IndexError):
        pass
    return None
