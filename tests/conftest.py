"""Every test runs in isolation: without the configuration and data of the person who runs it."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from appliance.config import ENVIRONMENT_PREFIX
from tests.distribution import SHARED, arrange, remove_shared_folder, shared_folder

if TYPE_CHECKING:
    from tests.services.postgres import PostgresServer
    from tests.services.servers import RedisCluster


# For `make check`; the default is 100 examples.
hypothesis.settings.register_profile("fast", max_examples=20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run tests/faults as long as `make faults` does")
    parser.addoption("--seed", type=int, help="repeat what chance did in the run that printed this number")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control ignores SIGINT in what it starts with "&", as nohup does SIGHUP; a process that
    # ignores a signal passes that on to its children: programs that tests start would ignore the signals of a test.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # A handler of our own would end these tests; one that does nothing is the default again in a child.
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    if config.option.seed is None:
        config.option.seed = getattr(config, "workerinput", {}).get("seed")
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1_000_000)


def pytest_report_header(config: pytest.Config) -> str:
    return f"chance: --seed {config.option.seed}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the shared objects to a worker process of the tests."""
    node.workerinput[SHARED] = str(shared_folder(node.config))
    node.workerinput["seed"] = node.config.option.seed


def pytest_sessionfinish(session: pytest.Session) -> None:
    remove_shared_folder(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    arrange(items, Path(__file__).parent)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time."""
    return bool(request.config.option.long)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The random choices of a test; a failure says how to repeat them."""
    seed = request.config.option.seed
    print(f"To repeat what chance did here: --seed {seed}")
    return random.Random(f"{seed} {request.node.nodeid}")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: home / "config" / name)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: home / "data" / name)
    monkeypatch.setattr("platformdirs.user_log_path", lambda name: home / "log" / name)
    # For programs that a test starts.
    for variable, folder in (("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log")):
        monkeypatch.setenv(variable, str(Path(home) / folder))


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A Redis Cluster for all tests that do not damage it; its start takes seconds. It may have keys of other tests."""
    from tests.services.servers import RedisCluster

    with RedisCluster(tmp_path_factory.mktemp("cluster"), append_only=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests that do not damage it; each test has a schema of its own (`new_url`)."""
    from tests.services.postgres import PostgresServer

    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server
