# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser for tests: headless Chromium, spoken to by its own protocol over a pipe, with the standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE = 60


class Browser:
    """One page. ``complaints`` are errors, warnings and refused loads that it told of; ``requests`` all addresses that it asked for."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._buffer, self._number = read, write, b"", 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def open(self, address: str) -> None:
        """Load a page, and wait until its script has run."""
        self._call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self._call("Page.navigate", url=address)
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")

    def get(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.get(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def type(self, selector: str, words: str) -> None:
        """Type into a field, as somebody would."""
        self.get(f"document.querySelector({selector!r}).focus()")
        self._call("Input.insertText", text=words)

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        spot = self.get(f"(() => {{const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}}); "
                        "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];})()")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)

    def picture(self) -> str:
        """The page as it looks, as PNG in base64."""
        return str(self._call("Page.captureScreenshot", format="png")["data"])

    def memory(self) -> int:
        """The bytes of the script's heap."""
        return int(self._call("Runtime.getHeapUsage")["usedSize"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": self._session} if getattr(self, "_session", "") else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._notice(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], _PATIENCE)[0], "the browser says nothing"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser is gone"
            self._buffer += more
        text, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(text))

    def _notice(self, event: dict[str, Any]) -> None:
        method, said = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or method == "Runtime.consoleAPICalled" or (method == "Log.entryAdded" and said["entry"]["level"] != "info"):
            self.complaints.append(json.dumps(said))
        elif method == "Network.requestWillBeSent" and not said["request"]["url"].startswith("about:"):
            self.requests.append(said["request"]["url"])


@contextlib.contextmanager
def browser(place: Path) -> Iterator[Browser]:
    """A browser with a profile of its own below ``place``; gone at the end."""
    assert CHROMIUM
    to_read, to_write = os.pipe(), os.pipe()
    # The protocol comes in by descriptor 3 and goes out by 4; a shell puts them there, whatever numbers the pipes have.
    shell = f'exec 3<&{to_read[0]} 4>&{to_write[1]}; exec "$@"'
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--remote-debugging-pipe", f"--user-data-dir={place / 'chromium'}"]
    process = subprocess.Popen(["bash", "-c", shell, "sh", CHROMIUM, *flags], pass_fds=(to_read[0], to_write[1]), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(place)})
    os.close(to_read[0])
    os.close(to_write[1])
    try:
        yield Browser(to_write[0], to_read[1])
    finally:
        os.close(to_read[1])
        os.close(to_write[0])
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
