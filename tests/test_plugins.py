"""Plug-ins: which reducers are found, in which order, and that one with an error does not stop the others."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from appliance import plugins
from appliance.health import Finding
from appliance.plugins import Catalog, load
from appliance.reducer import Event

GOOD = """
from typing import ClassVar
from appliance.reducer import {imports}STUDENT, Event, Reducer, State, replace

class Count(State):
    events: int = 0

class Counts(Reducer[Count]):
    name = "{name}"
    State = Count

    def reduce(self, state: Count, event: Event) -> Count:
        return replace(state, events=state.events + 1)

    def summarize(self, state: Count) -> dict[str, object]:
        return {{"events": state.events}}
"""


def good(name: str, imports: str = "") -> str:
    return GOOD.format(name=name, imports=imports)


@pytest.fixture(autouse=True)
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of bundled reducers for this test: empty until the test writes one."""
    folder = tmp_path / "program" / "reducers"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "reducers"}
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "reducers"]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions; `install` adds one."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("acme", None)


def install(site: Path, distribution: str, module: str, code: str, *, target: str = "") -> None:
    (site / f"{module}.py").write_text(code)
    information = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (information / "entry_points.txt").write_text(f"[{plugins.ENTRY_POINTS}]\n{module} = {target or module}\n")
    importlib.invalidate_caches()
    assert Distribution.from_name(distribution).version == "1.5"


def names(catalog: Catalog) -> list[str]:
    return [loaded.reducer.name for loaded in catalog.reducers]


def only_problem(catalog: Catalog) -> Finding:
    [problem] = catalog.findings
    assert (problem.severity, problem.source) == ("error", "reducers")
    assert problem.text.endswith(".")
    assert "\n" not in problem.text
    return problem


class TestFinding:
    def test_no_folder_is_no_problem(self, tmp_path: Path) -> None:
        assert load(tmp_path / "none", []) == Catalog((), ())

    def test_bundled_then_installed_then_folder_each_by_name(
        self, bundled: Path, installed: Path, folder: Path
    ) -> None:
        for where in (bundled, folder):
            for name in ("zebra", "ant"):
                (where / f"{name}.py").write_text(good(f"{name}_{where.name}"))
        install(installed, "acme-reducers", "acme", good("acme"))
        catalog = load(folder, [])
        assert names(catalog) == ["ant_reducers", "zebra_reducers", "acme", "ant_mine", "zebra_mine"]
        assert [loaded.origin for loaded in catalog.reducers][1:4] == [
            "bundled",
            "installed (acme-reducers 1.5)",
            "folder: ant.py",
        ]
        assert catalog.findings == ()

    def test_what_is_found_works(self, folder: Path) -> None:
        (folder / "mine.py").write_text(good("mine"))
        [loaded] = load(folder, []).reducers
        state = loaded.reducer.reduce(loaded.reducer.initial(), Event("edit", 1.0, "test", {}))
        assert loaded.reducer.summarize(state) == {"events": 1}

    def test_an_entry_point_may_name_the_class(self, installed: Path, folder: Path) -> None:
        install(installed, "acme", "acme", good("acme"), target="acme:Counts")
        assert names(load(folder, [])) == ["acme"]

    def test_a_package_with_relative_imports_is_a_plugin(self, folder: Path) -> None:
        (folder / "deep" / "inner").mkdir(parents=True)
        (folder / "deep" / "__init__.py").write_text("from .inner.core import Counts, Hidden")
        (folder / "deep" / "inner" / "__init__.py").write_text("")
        (folder / "deep" / "inner" / "core.py").write_text(good("deep") + "class Hidden(Reducer):\n    pass\n")
        catalog = load(folder, [])
        assert names(catalog) == ["deep"]
        assert catalog.reducers[0].origin == "folder: deep"
        assert catalog.findings == ()

    def test_private_and_hidden_names_and_other_files_are_skipped(self, folder: Path) -> None:
        for name in ("_draft.py", ".hidden.py", "notes.txt"):
            (folder / name).write_text("raise RuntimeError")
        (folder / "empty").mkdir()
        assert load(folder, []) == Catalog((), ())

    def test_files_with_similar_names_are_separate_modules(self, folder: Path) -> None:
        (folder / "a-b.py").write_text(good("first"))
        (folder / "a_b.py").write_text(good("second"))
        (folder / "json.py").write_text(good("third"))
        (folder / "user.py").write_text("import json\njson.dumps({})\n" + good("fourth"))
        assert names(load(folder, [])) == ["first", "second", "third", "fourth"]

    def test_a_reducer_that_is_imported_from_elsewhere_is_not_the_plugins_own(
        self, installed: Path, folder: Path
    ) -> None:
        install(installed, "acme", "acme", good("acme"))
        (folder / "mine.py").write_text("from acme import Counts\nclass Mine(Counts):\n    name = 'mine'\n")
        catalog = load(folder, [])
        assert names(catalog) == ["acme", "mine"]
        assert catalog.findings == ()

    def test_loading_again_sees_what_has_changed(self, folder: Path) -> None:
        (folder / "mine.py").write_text(good("mine"))
        load(folder, [])
        (folder / "mine.py").write_text(good("changed"))
        assert names(load(folder, [])) == ["changed"]


class TestDisabling:
    def test_a_disabled_reducer_does_not_run(self, folder: Path) -> None:
        (folder / "a.py").write_text(good("a"))
        (folder / "b.py").write_text(good("b"))
        catalog = load(folder, ["a"])
        assert names(catalog) == ["b"]
        assert catalog.findings == ()

    def test_disabling_what_is_not_there_is_a_problem(self, folder: Path) -> None:
        problem = only_problem(load(folder, ["wrting"]))
        assert (problem.code, problem.subject) == ("plugin.unknown", "wrting")
        assert problem.line.startswith(
            "bad plug-in wrting, reducers.disabled: No reducer has the name wrting, which the configuration disables."
        )


class TestBrokenPlugins:
    """Beside each plug-in with an error there is a valid one, which runs."""

    @pytest.fixture(autouse=True)
    def _neighbour(self, folder: Path) -> None:
        (folder / "neighbour.py").write_text(good("neighbour"))

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("raise ValueError('no\\n  luck')", "It cannot be imported: ValueError: no luck (broken.py, line 1)."),
            (
                "\nimport nothing_of_that_name",
                "It cannot be imported: ModuleNotFoundError: No module named "
                "'nothing_of_that_name' (broken.py, line 2).",
            ),
            ("\n\ndef (:\n", "It cannot be imported: SyntaxError: invalid syntax (broken.py, line 3)."),
            ("import sys\nsys.exit(0)", "It cannot be imported: it ends the program (SystemExit) (broken.py, line 2)."),
            ("x = 1", "It defines no subclass of appliance.reducer.Reducer that has a name."),
        ],
    )
    def test_a_module_that_cannot_be_used(self, folder: Path, code: str, reason: str) -> None:
        (folder / "broken.py").write_text(code)
        catalog = load(folder, [])
        problem = only_problem(catalog)
        assert (problem.subject, problem.params["origin"], problem.params["reason"]) == (
            "broken",
            "folder: broken.py",
            reason,
        )
        assert names(catalog) == ["neighbour"]

    def test_a_package_that_fails_inside_names_the_file_inside(self, folder: Path) -> None:
        (folder / "broken").mkdir()
        (folder / "broken" / "__init__.py").write_text("from . import core")
        (folder / "broken" / "core.py").write_text("\n1 / 0")
        problem = only_problem(load(folder, []))
        assert (
            problem.params["reason"] == "It cannot be imported: ZeroDivisionError: division by zero (core.py, line 2)."
        )
        assert not [name for name in sys.modules if name.startswith("classroom_observer_plugin_broken")]

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ('name = "x"', 'name = "X-1"', "Its name must be lower-case letters, digits and '_'"),
            ('name = "x"', "name = 5", "Its name must be lower-case letters"),
            ('name = "x"', 'name = "x"; version = 0', "Its version must be a whole number from 1 up."),
            ('name = "x"', 'name = "x"; version = True', "Its version must be a whole number from 1 up."),
            ("    State = Count\n", "", "It needs a class State"),
            ("State = Count", "State = dict", "It needs a class State"),
            ("class Count(State)", "import msgspec\nclass Count(msgspec.Struct)", "Its State must be frozen"),
            ("events: int = 0", "events: int", "The field events of its State needs a default."),
            ("State = Count", "State = Count; scopes = ()", "Its scopes must be one or more tuples"),
            ("State = Count", 'State = Count; scopes = ("document",)', "Its scopes must be one or more tuples"),
            ("State = Count", 'State = Count; columns = {"events": "whole"}', "Its columns must be a dict"),
            (
                "State = Count",
                'from appliance.reducer import Column; State = Count; columns = {"events": Column("x", "int")}',
                "The kind of its column events must be one of whole, number",
            ),
            (
                "State = Count",
                'from appliance.reducer import Column; State = Count; columns = {"events": Column("x", "choice")}',
                "Its column events needs choices",
            ),
            ("State = Count", "State = Count; scopes = ((), ())", "Its scopes name the same scope twice."),
            ("State = Count", 'State = Count; events = "edit"', "Its events must be None or a frozenset of names."),
            ("State = Count", "State = Count; sources = {1}", "Its sources must be None or a frozenset of names."),
            ("def reduce", "def reduced", "It has no reduce()."),
            ("def summarize", "def summary", "It has no summarize()."),
            ("def reduce", "async def reduce", "Its reduce() must be a plain function, not async."),
            ('return {"events": state.events}', "return 5", "Its summarize() must return a dict of JSON values."),
            ('{"events": state.events}', '{"events": {1}}', "Its summarize() must return a dict of JSON values."),
            (
                '{"events": state.events}',
                '{"x": 1 / 0}',
                "Its summarize() fails on the initial state: ZeroDivisionError",
            ),
            ("def reduce", "def detail(self, state): return 1\n    def reduce", "Its detail() must return a dict"),
            (
                "def reduce",
                "def initial(self): return None\n    def reduce",
                "Its initial() must return a State.",
            ),
            (
                "def reduce",
                "def initial(self): raise SystemExit\n    def reduce",
                "Its initial() fails on the initial state: it ends the program (SystemExit).",
            ),
            (
                "def reduce",
                "def encode(self, state): return 'x'\n    def reduce",
                "Its initial state must be the same after encode() and decode().",
            ),
            ("events: int = 0", "events: object = object()", "Its encode() or decode() fails on the initial state"),
            (
                "def reduce",
                "scopes = (('item',),)\n    def overview(self, states, latest): return []\n    def reduce",
                "Its overview() must return a dict of JSON values.",
            ),
            ("def reduce", "def __init__(self, x): pass\n    def reduce", "Making it fails"),
        ],
    )
    def test_a_reducer_that_breaks_a_rule(self, folder: Path, old: str, new: str, reason: str) -> None:
        code = good("x")
        assert old in code
        (folder / "broken.py").write_text(code.replace(old, new))
        catalog = load(folder, [])
        problem = only_problem(catalog)
        assert problem.text.startswith(reason)
        assert problem.params["origin"] == "folder: broken.py"
        assert names(catalog) == ["neighbour"]

    def test_of_two_with_one_name_the_first_counts(self, bundled: Path, folder: Path) -> None:
        (bundled / "writing.py").write_text(good("writing"))
        (folder / "another.py").write_text(good("writing"))
        catalog = load(folder, [])
        assert [(loaded.reducer.name, loaded.origin) for loaded in catalog.reducers] == [
            ("writing", "bundled"),
            ("neighbour", "folder: neighbour.py"),
        ]
        assert only_problem(catalog).params["reason"] == (
            "Its name is taken by the reducer of that name that is bundled; give it another one."
        )

    def test_a_bundled_one_that_fails_is_reported_too(self, bundled: Path, folder: Path) -> None:
        (bundled / "bad.py").write_text("1 / 0")
        (bundled / "good.py").write_text(good("good"))
        catalog = load(folder, [])
        assert names(catalog) == ["good", "neighbour"]
        assert only_problem(catalog).params["origin"] == "bundled"

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("acme:five", "Its entry point acme:five is neither a module nor a subclass of Reducer."),
            ("acme:nothing", "It cannot be imported: AttributeError: "),
        ],
    )
    def test_an_installed_one_that_is_no_reducer(self, installed: Path, folder: Path, target: str, reason: str) -> None:
        install(installed, "acme", "acme", "five = 5", target=target)
        catalog = load(folder, [])
        problem = only_problem(catalog)
        assert problem.params["origin"] == "installed (acme 1.5)"
        assert problem.text.startswith(reason)
        assert names(catalog) == ["neighbour"]

    def test_a_folder_that_cannot_be_read(self, folder: Path) -> None:
        problem = only_problem(load(folder / "neighbour.py", []))
        assert problem.text.startswith(f"The plug-in folder {folder / 'neighbour.py'} cannot be read: ")

    def test_a_person_who_stops_the_program_stops_it(self, folder: Path) -> None:
        (folder / "broken.py").write_text("raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            load(folder, [])

    def test_each_problem_is_logged_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "broken.py").write_text("1 / 0")
        with caplog.at_level(logging.INFO, "classroom_observer.plugins"):
            catalog = load(folder, [])
        assert [record.getMessage() for record in caplog.records] == [catalog.findings[0].line.removeprefix("bad ")]


@pytest.fixture
def packages(folder: Path) -> Iterator[Path]:
    packages = folder / plugins.PACKAGES
    packages.mkdir()
    yield packages
    if str(packages) in sys.path:
        sys.path.remove(str(packages))
    for module in ("acme", "counting"):
        sys.modules.pop(module, None)


def test_a_plugin_imports_packages_that_lie_beside_it(folder: Path, packages: Path) -> None:
    (packages / "counting").mkdir()
    (packages / "counting" / "__init__.py").write_text("from appliance.reducer import State\n")
    (folder / "mine.py").write_text("import counting\n" + good("mine"))
    catalog = load(folder, [])
    assert [(loaded.reducer.name, loaded.origin) for loaded in catalog.reducers] == [("mine", "folder: mine.py")]
    assert not catalog.findings


def test_a_package_beside_the_plugins_may_offer_reducers(folder: Path, packages: Path) -> None:
    sys.path.append(str(packages))
    install(packages, "acme-counts", "acme", good("acme"))
    sys.path.remove(str(packages))
    importlib.invalidate_caches()
    catalog = load(folder, [])
    assert [loaded.origin for loaded in catalog.reducers] == ["installed (acme-counts 1.5)"]


def test_a_package_beside_the_plugins_hides_nothing_of_the_program(folder: Path, packages: Path) -> None:
    (packages / "msgspec.py").write_text("raise AssertionError\n")
    (folder / "mine.py").write_text("import msgspec\nassert msgspec.Struct\n" + good("mine"))
    load(folder, [])
    assert sys.path[-1] == str(packages)
    assert not load(folder, []).findings
    assert sys.path.count(str(packages)) == 1
