"""Tells systemd how the service is: READY, STATUS, WATCHDOG, STOPPING (the protocol of sd_notify(3)).

Nothing happens without $NOTIFY_SOCKET: a daemon started by hand is as good as one started by systemd.
"""

import os
import socket
import time
from collections.abc import Mapping


class ServiceState:
    """The service's word to its manager. Sends never wait and never raise."""

    def __init__(self, socket_path: str | None) -> None:
        self._address = _address(socket_path)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "ServiceState":
        """By $NOTIFY_SOCKET, of this process unless another environment is given."""
        return cls((os.environ if environment is None else environment).get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> bool:
        """Start-up is over; `systemctl status` shows the text. True when the manager was told."""
        return self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> bool:
        """Still alive; to be sent at least every `watchdog_interval_seconds`."""
        return self._send("WATCHDOG=1")

    def reloading(self, monotonic_seconds: float | None = None) -> bool:
        """Reading the configuration anew; `ready` ends it. The moment is CLOCK_MONOTONIC, which systemd insists on."""
        seconds = time.clock_gettime(time.CLOCK_MONOTONIC) if monotonic_seconds is None else monotonic_seconds
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={int(seconds * 1_000_000)}")

    def stopping(self, status: str) -> bool:
        """Shutting down."""
        return self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def _send(self, text: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            # A manager that does not listen is no reason for the service to stop; a missed watchdog tells it enough.
            return False
        return True


def watchdog_interval_seconds(
    environment: Mapping[str, str] | None = None, process_id: int | None = None
) -> float | None:
    """How often to send WATCHDOG=1: half of what systemd allows ($WATCHDOG_USEC); None when it does not watch us.

    $WATCHDOG_PID guards against a child that inherited the variables of its parent.
    """
    variables = os.environ if environment is None else environment
    microseconds = variables.get("WATCHDOG_USEC", "")
    watched = variables.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if watched and watched != str(os.getpid() if process_id is None else process_id):
        return None
    return int(microseconds) / 1_000_000 / 2


def _address(path: str | None) -> str | None:
    """The socket's address: a path, or the abstract name that systemd writes with @ in front."""
    if path is None or not path.startswith(("/", "@")) or len(path) < 2:
        return None
    return "\0" + path[1:] if path.startswith("@") else path


def _one_line(text: str) -> str:
    return " ".join(text.split())
