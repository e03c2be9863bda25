"""The signs that the configuration asks for, told as one."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge_agent.usb_watch.hook import Hook
from edge_agent.usb_watch.led import LEDS, Led
from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.notices import Notices
from edge_agent.usb_watch.sentences import Sentence
from edge_agent.usb_watch.signs import Sign


class Telling:
    """A `Sign` made of others: a command, a socket that `listen` makes for desktops, a light by its name; or none."""

    def __init__(
        self, sentence: Sentence, *, hook: Path | None, listen: Callable[[], socket.socket] | None, led: str | None
    ) -> None:
        self._signs: list[Sign] = []
        self.parts: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        """What has to run for it, by name, until cancelled; each may raise OSError, and be run again."""
        if hook is not None:
            self._signs.append(Hook(hook, sentence))
        if listen is not None:
            notices = Notices(listen, sentence)
            self._signs.append(notices)
            self.parts.append(("notices socket", notices.run))
        if led is not None:
            light = Led(LEDS / led)
            self._signs.append(light)
            self.parts.append(("light", light.run))

    def tell(self, turn: Turn, state: MediumState) -> None:
        """See `Sign`."""
        for sign in self._signs:
            sign.tell(turn, state)
