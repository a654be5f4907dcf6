"""A full or failing disk: a change is refused with a sentence, and has no effect."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.web.world import World, world

CLASSES = "name,class\nAda,7a\nBob,7b\n"


def failing(number: int) -> Any:
    def write(*arguments: object) -> None:
        raise OSError(number, "No space left on device" if number == errno.ENOSPC else "Input/output error")

    return write


async def states(w: World) -> dict[str, str]:
    return {section["class_id"]: section["state"] for section in await w.get("/api/v1/classes")}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_pause_that_cannot_be_kept_is_refused_and_has_not_happened(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "roster").mkdir(parents=True)
    (tmp_path / "data" / "roster" / "students.csv").write_text(CLASSES)
    async with world(tmp_path) as w, w.student("Eve") as student:
        body = {"class_id": "7a"}
        with monkeypatch.context() as disk:
            disk.setattr("appliance.datafolder.files.write_private", failing(number))
            async with w.client.post(f"{w.url}/api/v1/class/pause", json=body, headers=w.educator) as answer:
                assert answer.status == 503
                said = (await answer.json())["error"]
                assert (said["code"], said["message"][:22]) == ("storage", "The server cannot save")
                assert str(tmp_path) not in said["message"]
        assert await states(w) == {"7a": "open", "7b": "open"}
        # The next change that can be saved saves only that one.
        await w.post("/api/v1/class/pause", {"class_id": "7b"})
        await student.send({"event": "e", "t": 1})
        await student.acked(1)
    async with world(tmp_path) as w:
        assert await states(w) == {"7a": "open", "7b": "paused"}
        with monkeypatch.context() as disk:
            disk.setattr("appliance.datafolder.files.write_private", failing(number))
            async with w.client.post(f"{w.url}/api/v1/class/resume", json={}, headers=w.educator) as answer:
                assert answer.status == 503
        assert (await states(w))["7b"] == "paused"
        await w.post("/api/v1/class/resume", {})
        assert await states(w) == {"7a": "open", "7b": "open"}
    assert "Traceback" not in caplog.text
