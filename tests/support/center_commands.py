"""`central-broker` as real processes on a center in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.small_center import on_loopback, small_center

PROGRAM = Path(sys.executable).with_name("central-broker")


class CenterCommands:
    """Runs commands on one center; the passphrase comes from a file, as in a service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passphrase = folder.with_name(f"{folder.name}.passphrase")
        self.passphrase.write_text("six words of a long passphrase\n")
        self.passphrase.chmod(0o600)

    def make_small(self, port: int, center_port: int) -> None:
        """The center as `init` makes it, without the cost of sealed keys: for tests of other commands."""
        chosen = {**on_loopback(port, center_port), "secrets.passphrase_file": str(self.passphrase)}
        small_center(self.folder, chosen, passphrase=self.passphrase.read_text().strip())

    def _environment(self) -> dict[str, str]:
        unwanted = ("CREDENTIALS_DIRECTORY", "CENSUS_PASSPHRASE_FILE", "NOTIFY_SOCKET")
        kept = {key: value for key, value in os.environ.items() if key not in unwanted}
        return {**kept, "CENSUS_CENTER": str(self.folder)}

    def try_run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *map(str, words)],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def run(self, *words: str | Path) -> str:
        done = self.try_run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.run(*words, "--json"))

    def refuse(self, *words: str | Path) -> str:
        """What a command says that cannot do what it is asked: always with a remedy, never with a traceback."""
        done = self.try_run(*words)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "what to do: " in done.stderr
        return done.stderr

    @contextlib.contextmanager
    def service(self, *words: str, notify: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A running service, ended by its own pid; it must leave well when asked to."""
        environment = self._environment() | ({"NOTIFY_SOCKET": str(notify)} if notify else {})
        log = self.folder / f"{words[0]}.log"
        with log.open("ab") as output:
            process = subprocess.Popen([PROGRAM, *words], env=environment, stdout=output, stderr=output)
        try:
            yield process
            assert process.poll() is None, f"{words[0]} ended by itself: {log.read_text()}"
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
