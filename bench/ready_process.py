"""A process that says "ready" on its standard output and begins at a line on its standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DATABASE_VARIABLE: Final = "BENCH_DATABASE"
_END_SECONDS: Final = 20


class ReadyProcess:
    """A context manager that ends it. Its log goes to a file."""

    def __init__(self, module: str, arguments: Sequence[str | Path], log: Path, *, database: str = "") -> None:
        """`database` is an address with a password, and so handed over where other users cannot read it."""
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1", DATABASE_VARIABLE: database},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for(self, word: str) -> None:
        """Wait until it says this word on a line of its own; raises RuntimeError when it ends before."""
        if self._process.stdout is None:
            raise RuntimeError("its output is not read")
        for line in self._process.stdout:
            if line.decode().strip() == word:
                return
        raise RuntimeError(f"{self._process.args!r} ended before it said {word!r}: {self._log.read_text()[-2_000:]}")

    def go(self) -> None:
        """Let it begin."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it: SIGTERM, and SIGKILL when that is not heeded."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> ReadyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
