"""A person at a browser: opens a page of a form program, answers, sends; and tells what the screen showed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

FOLDER: Final = Path(__file__).resolve().parent
_SECONDS_MAX: Final = 100

Step = Sequence[Any]
"""A step's name and what it needs; drive.js has them all."""


@dataclass(frozen=True)
class Seen:
    """What a visit to the page showed."""

    said: list[str]
    """What the page told of what the endpoint answered: status and sentence."""
    problems: list[str]
    """Errors in the browser's console, and requests that failed."""
    requests: list[tuple[str, str, int]]
    """Method, path below the key and status of every request to the endpoint."""
    texts: list[str]


class PageServer:
    """Serves a folder on loopback, as the web server of a tablet would; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        self.origin = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Person:
    """Has a browser in their language, and the address of the tablet's endpoint."""

    chromium: str
    origin: str
    server: str
    locale: str = "en-GB"

    def opens(self, form: str, steps: Sequence[Step]) -> Seen:
        """Do these steps with a form, in a browser that was never used before."""
        with tempfile.TemporaryDirectory(prefix="census-browser-") as profile:
            words = {
                "chromium": self.chromium,
                "profile": profile,
                "locale": self.locale,
                # Behind the #, so that the key reaches the page and not its server.
                "page": f"{self.origin}/web_forms.html#{urlencode({'server': self.server, 'form': form})}",
                "steps": list(steps),
            }
            ended = subprocess.run(
                ["node", str(FOLDER / "drive.js")],
                input=json.dumps(words),
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS_MAX,
                env={**os.environ, "HOME": profile},
            )
        if ended.returncode:
            raise AssertionError(f"the browser's visit ended with an error:\n{ended.stderr}")
        seen = json.loads(ended.stdout)
        return Seen(seen["said"], seen["problems"], [tuple(one) for one in seen["requests"]], seen["texts"])
