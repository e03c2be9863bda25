"""A conversation in lines of JSON over a unix socket: answers are found by their id, everything else is an event."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

Message = dict[str, Any]
_CONNECT_SECONDS: Final = 20.0


class ConversationEnded(Exception):
    """The other side is gone, or says nothing."""


class JsonLines:
    """One connection; a thread of its own hears what comes."""

    def __init__(self, path: Path, is_alive: Callable[[], bool]) -> None:
        self._socket = _connected(path, is_alive)
        self._news = threading.Condition()
        self._answers: dict[int, Message] = {}
        self._events: list[Message] = []
        self._number = 0
        self._is_over = False
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, request: Message, seconds: float) -> Message:
        """Send a request and return its answer; raises ConversationEnded."""
        with self._news:
            self._number += 1
            number = self._number
        # The line that ends here may have begun before a machine was frozen.
        self._socket.sendall(b"\n" + json.dumps({**request, "id": number}).encode() + b"\n")
        with self._news:
            self._news.wait_for(lambda: number in self._answers or self._is_over, seconds)
            if number in self._answers:
                return self._answers.pop(number)
        raise ConversationEnded("it was ended" if self._is_over else f"no answer within {seconds} seconds: {request}")

    def event(self, matches: Callable[[Message], bool], seconds: float) -> Message:
        """Return the first event that matches, and forget it; raises ConversationEnded."""
        with self._news:
            found: list[Message] = []

            def has_come() -> bool:
                found[:] = [event for event in self._events if matches(event)]
                return bool(found) or self._is_over

            self._news.wait_for(has_come, seconds)
            if not found:
                raise ConversationEnded("the event does not come")
            self._events.remove(found[0])
            return found[0]

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        received = b""
        try:
            while data := self._socket.recv(1 << 20):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._take(line)
        except OSError:
            pass
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def _take(self, line: bytes) -> None:
        try:
            message: Message = json.loads(line)
        except ValueError:
            return
        with self._news:
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._events.append(message)
            self._news.notify_all()


def _connected(path: Path, is_alive: Callable[[], bool]) -> socket.socket:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if not is_alive() or time.monotonic() > deadline:
                raise ConversationEnded(f"{path.name}: {error}") from error
            time.sleep(0.02)
        else:
            return connection
