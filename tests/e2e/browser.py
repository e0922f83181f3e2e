"""A headless Chromium, driven over its DevTools protocol: only what the dashboard's tests need."""

import asyncio
import base64
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp

_WAIT_S: Final = 20.0
# As root, which CI is, Chromium has no sandbox; and containers often have little shared memory.
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
)


class Browser:
    """One page; what it logged and whom it asked is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self.complaints: list[str] = []  # errors on the console, exceptions, what the policy forbade
        self.requests: list[str] = []
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        return await asyncio.wait_for(answer, _WAIT_S)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, holds: Callable[[Any], bool] = bool) -> Any:
        """Wait until an expression in the page has a value that is wanted, and return that."""
        stop = time.monotonic() + _WAIT_S
        while not holds(value := await self.run(script)):
            assert time.monotonic() < stop, f"not within {_WAIT_S:g} s: {script}"
            await asyncio.sleep(0.05)
        return value

    async def open(self, url: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.ask(f"{domain}.enable")
        await self.resize(width, height)
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.ask("Page.navigate", url=url)
        await self.until("location.protocol === 'http:' && document.readyState === 'complete'")

    async def resize(self, width: int, height: int) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def key(self, name: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=9)

    async def screenshot(self, path: Path) -> None:
        answer = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        async for message in self._socket:
            values = json.loads(message.data)
            if "id" in values:
                answer = self._answers.pop(values["id"])
                if "error" in values:
                    answer.set_exception(AssertionError(values["error"]))
                else:
                    answer.set_result(values["result"])
                continue
            params = values["params"]
            match values["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(params["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    self.complaints.append(json.dumps(params["args"]))
                case "Log.entryAdded" if params["entry"]["level"] == "error":
                    self.complaints.append(params["entry"]["text"])


@contextlib.asynccontextmanager
async def browser(program: str, folder: Path) -> AsyncIterator[Browser]:
    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_WAIT_S):
            while (
                not (folder / "DevToolsActivePort").exists() or not (folder / "DevToolsActivePort").read_text().strip()
            ):
                assert process.poll() is None, "the browser has ended"
                await asyncio.sleep(0.05)
        port = int((folder / "DevToolsActivePort").read_text().splitlines()[0])
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [target for target in await answer.json() if target["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Browser(socket)
                yield page
                await page.close()
    finally:
        process.kill()
        process.wait()
