"""Scripts of the pages: joined from modules, by rules that are checked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.web.pages import Pages
from appliance.web.scripts import classic_script, join, module_script
from tests.web.world import world

WEBUI = Path(__file__).parents[2] / "webui"
PAGE_SCRIPTS = sorted(
    {
        script
        for page in WEBUI.rglob("*.html")
        for script in re.findall(r'type="module" src="/static/([^"]+)"', page.read_text(encoding="utf-8"))
    }
)
SHARED = "export const a = 1;\nexport function b() {\n  return a;\n}\n"


def run(script: str, folder: Path) -> str:
    """The output of a script, run by Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    file = folder / "script.mjs"
    file.write_text(script, encoding="utf-8")
    return subprocess.run([node, str(file)], check=True, capture_output=True, text=True).stdout.strip()


def test_modules_are_joined_in_the_order_of_their_imports(tmp_path: Path) -> None:
    files = {
        "one/entry.js": 'import { a, b } from "../shared.js";\nimport { c } from "./c.js";\nconst x = 5;\n'
        "console.log(a, b(), c, x);\n",
        "one/c.js": 'import {\n  a,\n} from "../shared.js";\n\nconst x = a + 1;\nexport const c = x;\n',
        "shared.js": SHARED,
    }
    assert run(module_script(files, "one/entry.js"), tmp_path) == "1 1 2 5"


def test_the_exports_of_the_entry_are_offered(tmp_path: Path) -> None:
    files = {"e.js": "class C {}\nconst d = 2;\n\nexport { C, d };\n"}
    assert run(f"{module_script(files, 'e.js')}\nconsole.log(typeof C, d);", tmp_path) == "function 2"
    assert run(f"{classic_script(files, 'e.js')}\nconsole.log(typeof globalThis.C, globalThis.d);", tmp_path) == (
        "function 2"
    )


def test_comments_that_fill_lines_are_left_out(tmp_path: Path) -> None:
    text = "/**\n * import(x)\n */\nconst a = 1; // stays\n  // goes\n/* goes */\n"
    text += "console.log(a /* stays */, '// stays');\n"
    script = module_script({"e.js": text}, "e.js")
    assert "goes" not in script
    assert script.count("stays") == 3
    assert run(script, tmp_path) == "1 // stays"


def test_a_vendored_module_keeps_its_licence() -> None:
    files = {"vendor/x/x.js": "export const x = 1;\n", "vendor/x/LICENSE": "ISC\n\nCopyright X\n"}
    files["e.js"] = 'import { x } from "./vendor/x/x.js";\nexport const y = x;\n'
    assert "// ISC\n//\n// Copyright X\n" in join(files, "e.js")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('import x from "./shared.js";', "cannot be joined"),
        ('import * as x from "./shared.js";', "cannot be joined"),
        ('import { a as x } from "./shared.js";', "another one"),
        ('import "./shared.js";', "cannot be joined"),
        ('import { a } from "/client.js";', "cannot be joined"),
        ('import { missing } from "./shared.js";', "missing, which shared.js does not export"),
        ('import { a } from "./nowhere.js";', "nowhere.js is missing"),
        ('import { a } from "./e.js";', "circle"),
        ("export default 5;", "cannot be joined"),
        ("export let x = 5;", "cannot be joined"),
        ('export { a } from "./shared.js";', "cannot be joined"),
        ('const x = () => import("./shared.js");', "cannot be joined"),
        ("const x = import.meta.url;", "cannot be joined"),
        ("await fetch(1);", "cannot be joined"),
        ("const x = await fetch(1);", "cannot be joined"),
    ],
)
def test_a_module_that_breaks_a_rule_is_named(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        join({"e.js": text + "\n", "shared.js": SHARED}, "e.js")


def test_every_page_has_one_script_that_a_browser_can_read(tmp_path: Path) -> None:
    files = {path.relative_to(WEBUI).as_posix(): path.read_text(encoding="utf-8") for path in WEBUI.rglob("*.js")}
    assert PAGE_SCRIPTS == [
        "student/join.js",
        "student/write.js",
        "teacher/accounts.js",
        "teacher/dashboard.js",
        "teacher/login.js",
        "teacher/pair.js",
        "teacher/people.js",
        "teacher/roster.js",
        "teacher/setup.js",
    ]
    node = shutil.which("node")
    for entry in [*PAGE_SCRIPTS, "client/stream.js"]:
        script = module_script(files, entry)
        assert not re.search(r"^import\b", script, re.MULTILINE), entry
        if node:
            file = tmp_path / "script.mjs"
            file.write_text(script, encoding="utf-8")
            subprocess.run([node, "--check", str(file)], check=True)


def test_a_folder_without_pages_is_an_incomplete_installation(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Install Classroom Observer again"):
        Pages(tmp_path)


async def test_the_client_library_is_one_request_at_its_two_addresses(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for path, offers in (
            ("/client.js", "export const { ClassroomStream }"),
            ("/client.classic.js", "globalThis.ClassroomStream ="),
        ):
            async with w.client.get(w.url + path) as answer:
                text = await answer.text()
                assert answer.status == 200
                assert answer.content_type == "text/javascript"
                assert offers in text
                assert "Jake Archibald" in text
                assert not re.search(r"^import\b", text, re.MULTILINE)
