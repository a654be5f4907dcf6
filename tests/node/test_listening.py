"""Listening sockets: a port or an address that cannot be used is one sentence that says what to do."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from appliance.errors import PortInUseError, SettingsError
from appliance.node import bind
from appliance.node.listening import is_loopback


def test_any_free_port_is_bound_and_accepts_connections() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        pass


def test_a_port_in_use_is_an_error_that_names_the_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} is in use by") as error:
            bind("127.0.0.1", port)
        if sys.platform == "linux":
            assert f"(process {os.getpid()})" in str(error.value)


def test_an_address_of_another_computer_is_an_error() -> None:
    with pytest.raises(SettingsError, match="not an address of this computer"):
        bind("no such host", 0)
    with pytest.raises(SettingsError, match="cannot listen on"):
        bind("192.0.2.1", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="processes share a port on Linux only")
def test_processes_of_the_program_share_a_port() -> None:
    with bind("127.0.0.1", 0, share=True, listen=False) as holder:
        port = holder.getsockname()[1]
        with bind("127.0.0.1", port, share=True), pytest.raises(PortInUseError):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],
)
def test_only_loopback_addresses_are_for_this_computer_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_all_addresses_of_ipv6_are_all_of_ipv4_too() -> None:
    try:
        listener = bind("::", 0)
    except SettingsError:
        pytest.skip("IPv6 is switched off")
    with listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        pass
