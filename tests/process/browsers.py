"""A real browser for tests: Chromium without a window, told what to do over its own debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 30.0
Json = dict[str, Any]


def browser_or_skip() -> str:
    """Return the path of a browser; skip the test, and say so, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            f"NO BROWSER: none of {', '.join(NAMES)} is on PATH, so the page was not seen by one (apt install chromium)"
        )
    return found


class Tab:
    """One page. `problems` are its script errors and what its policy refused; `asked` the URLs that it asked."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self.asked: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._is_there = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: object) -> Json:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(answered, PATIENCE_S)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            match said:
                case {"id": number}:
                    self._waiting.pop(number).set_result(said)
                case {"method": "Runtime.exceptionThrown"}:
                    self.problems.append(json.dumps(said["params"]["exceptionDetails"]))
                case {"method": "Log.entryAdded"} if said["params"]["entry"]["source"] != "network":
                    self.problems.append(said["params"]["entry"]["text"])
                case {"method": "Page.frameNavigated"}:
                    self._is_there.set()
                case {"method": "Network.requestWillBeSent"}:
                    self.asked.append(said["params"]["request"]["url"])

    async def open(self, url: str) -> None:
        """Go to a page."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        self._is_there.clear()
        gone = await self.call("Page.navigate", url=url)
        assert "errorText" not in gone, gone
        await asyncio.wait_for(self._is_there.wait(), PATIENCE_S)
        await self.wait_for("document.readyState === 'complete'")

    async def value(self, script: str) -> Any:  # noqa: ANN401  # JSON
        """Return what a script evaluates to."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def text(self, selector: str) -> str:
        """Return the text of what matches, "" if nothing does."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    async def wait_for(self, script: str) -> None:
        """Wait until a script evaluates to something true."""
        deadline = time.monotonic() + PATIENCE_S
        while not await self.value(script):
            shown = await self.value("document.body?.innerText")
            assert time.monotonic() < deadline, f"after {PATIENCE_S} s not yet: {script}\n{shown}\n{self.problems}"
            await asyncio.sleep(0.02)

    async def press(self, key: str, *, code: int, with_control: bool = False) -> None:
        """Press and let go a key, as a keyboard does."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 2 if with_control else 0}
        text = {"text": "\r"} if key == "Enter" and not with_control else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def type(self, text: str) -> None:
        """Type a text where the focus is."""
        await self.call("Input.insertText", text=text)

    async def picture(self, file: Path) -> None:
        """Write a PNG of what is shown."""
        shown = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shown["data"]))


@asynccontextmanager
async def tab(program: str, *, width: int = 1200, height: int = 800, is_dark: bool = False) -> AsyncIterator[Tab]:
    """Start a browser with a profile of its own and open an empty tab; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="cn-browser-", ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "log"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                program,
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
                *(f"--user-data-dir={profile}/profile", f"--window-size={width},{height}", "about:blank"),
                stdout=stderr,
                stderr=stderr,
            )
        try:
            port = await _port(log, process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    (page,) = [each for each in await answer.json(content_type=None) if each["type"] == "page"]
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    opened = Tab(socket)
                    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                    await opened.call("Emulation.setDeviceMetricsOverride", **size)
                    scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
                    await opened.call("Emulation.setEmulatedMedia", features=[scheme])
                    yield opened
                    await opened.call("Browser.close")
                    await asyncio.wait_for(process.wait(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _port(log: Path, process: asyncio.subprocess.Process) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        said = await asyncio.to_thread(log.read_text, errors="replace")
        if found := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", said):
            return int(found[1])
        assert process.returncode is None, f"the browser ended with {process.returncode}:\n{said}"
        assert time.monotonic() < deadline, f"the browser opened no debugging port within {PATIENCE_S} s:\n{said}"
        await asyncio.sleep(0.05)
