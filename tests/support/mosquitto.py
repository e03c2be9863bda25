"""A private mosquitto: of a few options for small tests, or of a configuration file that the product wrote."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.processes import RunningProcess, accepts_connections, free_port


def find_mosquitto() -> Path | None:
    """The mosquitto program, or None; looked for in the daemons' folders too, which an ordinary user's PATH lacks."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
    return Path(found) if found else None


class Mosquitto:
    """One broker on a loopback port, in `folder`; a context manager that ends it.

    With `configuration`, a file, mosquitto runs from it and `port` must be the listener that it names. Without one,
    everybody may connect in plain text, and `options` are further lines of mosquitto.conf. Persistence, if asked for,
    survives kill9() and restart() as far as mosquitto keeps it at all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        configuration: Path | None = None,
        port: int | None = None,
        persistence: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        program = find_mosquitto()
        if program is None:
            raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
        if configuration is not None and (port is None or persistence or options):
            raise ValueError("a given configuration settles everything: pass its port, and no options")
        self._program = program
        self.port = free_port() if port is None else port
        self.log = folder / "mosquitto.log"
        self.configuration = folder / "mosquitto.conf" if configuration is None else configuration
        if configuration is None:
            self.configuration.write_text(self._plain_configuration(folder, persistence, options))
        self._process: RunningProcess | None = None

    def _plain_configuration(self, folder: Path, persistence: bool, options: Sequence[str]) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            # As root, mosquitto would become the user mosquitto, who may not enter a test's folder.
            f"user {getpass.getuser()}",
            "log_dest stderr",
            "log_type all",
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {folder}/",
            *options,
        ]
        return "\n".join(lines) + "\n"

    @property
    def process(self) -> RunningProcess:
        """The running broker. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("mosquitto is not started")
        return self._process

    def start(self) -> Self:
        """Start it and wait until its port accepts; a broker that ends instead fails with its log."""
        self._process = RunningProcess([self._program, "-c", self.configuration], log=self.log)
        self._process.wait_until(lambda: accepts_connections(self.port), f"mosquitto listens on port {self.port}")
        return self

    def kill9(self) -> None:
        """Crash it."""
        self.process.kill9()

    def stop(self) -> None:
        """End it in good order; nothing happens when it does not run."""
        if self._process is not None:
            self._process.close()

    def restart(self) -> None:
        """Start it again, after ending it if it still runs."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
