"""A private mosquitto: open to all, with mutual TLS, or of a configuration file that the product wrote."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.certificates import Material
from tests.support.processes import RunningProcess, accepts_connections, free_port


def find_mosquitto() -> Path | None:
    """The mosquitto program, or None; looked for in the daemons' folders too, which an ordinary user's PATH lacks."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
    return Path(found) if found else None


def why_no_mosquitto() -> str | None:
    """The reason to skip; None when mosquitto is installed."""
    return None if find_mosquitto() else "mosquitto is not installed: apt-get install mosquitto"


class Mosquitto:
    """One broker, in `folder`, which is made; a context manager that ends it.

    With `configuration`, a file, mosquitto runs from it and `port` must be the loopback listener that it names. Without
    one, `options` are further lines of mosquitto.conf; with `tls` only the authority's clients may connect, over
    TLS 1.3, and their common name is their user name; else everybody may, in plain text. `command_prefix` may start it
    inside a namespace. Persistence, if asked for, survives kill9() and restart() as far as mosquitto keeps it at all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        configuration: Path | None = None,
        port: int | None = None,
        address: str = "127.0.0.1",
        tls: Material | None = None,
        persistence: bool = False,
        options: Sequence[str] = (),
        command_prefix: Sequence[str] = (),
    ) -> None:
        program = find_mosquitto()
        if program is None:
            raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
        if configuration is not None and (port is None or tls or persistence or options):
            raise ValueError("a given configuration settles everything: pass its port, and no options")
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [*command_prefix, str(program)]
        self.address = address
        self.port = free_port() if port is None else port
        self.log = folder / "mosquitto.log"
        self.configuration = folder / "mosquitto.conf" if configuration is None else configuration
        self._says_running = configuration is None
        if configuration is None:
            self.configuration.write_text(self._written(folder, tls, persistence, options))
        self._process: RunningProcess | None = None

    def _written(self, folder: Path, tls: Material | None, persistence: bool, options: Sequence[str]) -> str:
        lines = [f"listener {self.port} {self.address}"]
        if tls is None:
            lines.append("allow_anonymous true")
        else:
            lines += [
                f"cafile {tls.authority}",
                f"certfile {tls.certificate}",
                f"keyfile {tls.key}",
                "require_certificate true",
                "use_identity_as_username true",
                "tls_version tlsv1.3",
                "allow_anonymous false",
            ]
        lines += [
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
        before = len(self.log.read_text(errors="replace")) if self.log.exists() else 0
        self._process = RunningProcess([*self._command, "-c", self.configuration], log=self.log)
        process = self._process

        def listens() -> bool:
            if self._says_running:  # the way to a port inside a namespace is not ours
                return "running" in process.log_text()[before:]
            return accepts_connections(self.port)

        process.wait_until(listens, f"mosquitto listens on port {self.port}")
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
