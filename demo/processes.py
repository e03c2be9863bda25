"""Real processes of the demo and the tests: started, watched, killed by their own pid, and always ended."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.02
# Long enough for a daemon that ends in good order under load, short enough not to hide one that does not.
_TERMINATE_SECONDS = 10.0
_LOG_TAIL_CHARACTERS = 2_000
# Below the ports that Linux gives to outgoing connections, so that none of those takes the port between choice and use.
_PORT_FIRST, _PORT_LAST = 12_000, 32_000

T = TypeVar("T")


class DeadlineError(AssertionError):
    """What was awaited did not come in time; the message says what it was, and what was seen instead."""


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    timeout_seconds: float = DEADLINE_SECONDS,
    evidence: Callable[[], str] | None = None,
) -> T:
    """Return the first true value of `condition`, asked again and again.

    Raises DeadlineError "not within … seconds: `what`", with what `evidence` says then (a log's tail, say).
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            seen = f"; last value {value!r}" + (f"\n{evidence()}" if evidence is not None else "")
            raise DeadlineError(f"not within {timeout_seconds:g} seconds: {what}{seen}")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A loopback TCP port that nothing listens on now; chosen at random, so that parallel tests differ."""
    while True:
        port = _PORT_FIRST + secrets.randbelow(_PORT_LAST - _PORT_FIRST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts_connections(port: int) -> bool:
    """Whether something accepts TCP connections on that loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class RunningProcess:
    """One process with its output in a log file; a context manager that ends it.

    `user` runs it as another user, by name (needs root). kill9() leaves its children alone; close() ends them too.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                # A Ctrl-C at the terminal is pytest's; it ends its processes in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, valid as long as it is alive."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, the negative signal number if a signal ended it, or None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL, as from a crash, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def terminate(self, *, timeout_seconds: float = _TERMINATE_SECONDS) -> int:
        """SIGTERM and the exit status; one that does not end in time is killed and DeadlineError raised."""
        self._process.terminate()
        return self.wait(timeout_seconds=timeout_seconds)

    def wait(self, *, timeout_seconds: float = DEADLINE_SECONDS) -> int:
        """Its exit status; one that does not end in time is killed and DeadlineError raised."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise DeadlineError(f"{self.name} did not end in {timeout_seconds:g} seconds\n{self.log_tail()}") from None

    def log_text(self) -> str:
        """Everything in its log file, including that of earlier processes with the same file."""
        return self.log.read_text(errors="replace")

    def log_tail(self) -> str:
        """The end of its log, for messages."""
        return f"--- end of {self.log.name} ---\n{self.log_text()[-_LOG_TAIL_CHARACTERS:]}"

    def wait_for_log(self, text: str, *, timeout_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the log contains `text`."""
        self.wait_until(
            lambda: text in self.log_text(), f"{text!r} in the log of {self.name}", timeout_seconds=timeout_seconds
        )

    def wait_until(self, condition: Callable[[], T], what: str, *, timeout_seconds: float = DEADLINE_SECONDS) -> T:
        """As the function wait_until, but gives up at once, with the log, when the process ends before."""

        def holds_while_alive() -> T:
            value = condition()
            if not value and not self.is_alive:
                raise DeadlineError(
                    f"{self.name} ended with status {self.exit_status} before: {what}\n{self.log_tail()}"
                )
            return value

        return wait_until(holds_while_alive, what, timeout_seconds=timeout_seconds, evidence=self.log_tail)

    def close(self) -> None:
        """End it, whatever state it is in: SIGTERM first, SIGKILL when that is not heeded."""
        if self.is_alive:
            with contextlib.suppress(DeadlineError):
                self.terminate()
        # What it left behind: the program behind a wrapper such as faketime, which does not hand signals on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
