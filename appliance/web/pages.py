"""The pages and their files, read into memory at start; no request ever touches the disk."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
import re
from pathlib import Path

from aiohttp import web

import appliance
from appliance.errors import SettingsError
from appliance.web.errors import ApiError
from appliance.web.scripts import classic_script, module_script

WEBUI = Path(appliance.__file__).parent.parent / "webui"
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".md": "text/plain",
    ".txt": "text/plain",
}
_CLIENT = "client/stream.js"
_PAGE_SCRIPT = re.compile(r'<script type="module" src="/static/([^"]+)"')


class _File:
    def __init__(self, name: str, content: bytes) -> None:
        kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        text = kind.startswith("text/") or kind in ("image/svg+xml", "application/json")
        self.headers = {
            "Content-Type": f"{kind}; charset=utf-8" if text else kind,
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            "Vary": "Accept-Encoding",
        }
        self.content = content
        self.packed = gzip.compress(content, mtime=0) if text and len(content) > 1024 else None


class Pages:
    """The files of the webui folder."""

    def __init__(self, folder: Path) -> None:
        """Read them all, and join each page's script from its modules.

        Raises:
            SettingsError: the folder is missing, so that the installation is incomplete; or a module cannot be joined.
        """
        if not (folder / _CLIENT).is_file():
            raise SettingsError(f"The pages are missing from {folder}. Install Classroom Observer again.")
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path.suffix != ".py"
            and not any(part.startswith(("_", ".")) for part in path.parts[-2:])
        }
        modules = {name: content.decode() for name, content in contents.items() if name.endswith((".js", "LICENSE"))}
        scripts = {
            entry: module_script(modules, entry)
            for name, content in contents.items()
            if name.endswith(".html")
            for entry in _PAGE_SCRIPT.findall(content.decode())
        }
        scripts["client.js"] = module_script(modules, _CLIENT)
        scripts["client.classic.js"] = classic_script(modules, _CLIENT)
        contents |= {name: script.encode() for name, script in scripts.items()}
        self._files = {name: _File(name, content) for name, content in contents.items()}

    def serve(self, request: web.Request, name: str, status: int = 200) -> web.Response:
        """One file.

        Raises:
            ApiError: 404.
        """
        file = self._files.get(name)
        if file is None:
            raise ApiError(404, "not_found", "There is nothing at this address.")
        if status == 200 and request.headers.get("If-None-Match") == file.headers["ETag"]:
            return web.Response(status=304, headers=file.headers)
        if file.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.packed, status=status, headers={**file.headers, "Content-Encoding": "gzip"})
        return web.Response(body=file.content, status=status, headers=file.headers)


@functools.cache
def installed_pages() -> Pages:
    """The pages of this installation. Reading and compressing them takes a tenth of a second, so all nodes share them.

    Raises:
        SettingsError: as `Pages`.
    """
    return Pages(WEBUI)
