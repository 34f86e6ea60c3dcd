"""Pages in headless Chromium, by its DevTools protocol through a pipe: what a reader would see.

Protocol: https://chromedevtools.github.io/devtools-protocol, messages that end in a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
from fcntl import F_DUPFD, fcntl
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
)
PATIENCE = 300
"""Seconds without a word after which it hangs."""
EVENTS = ("Page", "Runtime", "Log", "Network")


def chromium_or_skip():
    """The path of the browser; without one the test is skipped, and says why."""
    found = [path for path in map(shutil.which, NAMES) if path]
    return found[0] if found else pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH")


class Chromium:
    """A browser with one tab.

    Args:
        folder: where it may keep its profile.
    """

    def __init__(self, folder):
        theirs, self._to = os.pipe()
        self._from, back = os.pipe()

        def wire():
            """It reads from 3 and writes to 4."""
            for end, place in [(fcntl(theirs, F_DUPFD, 10), 3), (fcntl(back, F_DUPFD, 10), 4)]:
                os.dup2(end, place)

        call = [chromium_or_skip(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(call, pass_fds=(3, 4), preexec_fn=wire, **quiet)
        os.close(theirs)
        os.close(back)
        self._number, self._rest, self._session, self.events = 0, b"", None, []
        tab = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        about = {"targetId": tab["targetId"], "flatten": True}
        self._session = self.call("Target.attachToTarget", **about)["sessionId"]
        for domain in EVENTS:
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.call("Browser.close")
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def call(self, method, **params):
        """The result of a method; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser says nothing"
            more = os.read(self._from, 1 << 16)
            assert more, "the browser ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, path, width=1200, *, dark=False, media="screen"):
        """Show a file in a window of some width, in pixels, and wait until it is there."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while "Page.loadEventFired" not in [event.get("method") for event in self.events]:
            self.events.append(self._next())

    def value(self, expression):
        """What an expression of JavaScript is on the page, a promise waited for."""
        how = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key):
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    @property
    def complaints(self):
        """Errors and warnings of the console, and exceptions, of the page that is shown."""
        told = [e for e in self.events if e.get("method") in ("Log.entryAdded",
                "Runtime.exceptionThrown", "Runtime.consoleAPICalled")]  # fmt: skip
        return [json.dumps(event["params"])[:500] for event in told]

    @property
    def requests(self):
        """Addresses that the page asked for, itself and what it holds excepted."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls[1:] if not url.startswith(("data:", "blob:"))]

    def picture(self, path):
        """The whole page as a PNG file."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(found["data"]))
