"""Runs one service as one or several processes: starts again what died, and tells systemd how it is.

systemd's watchdog is fed only while every process is alive and came round its loop lately: one that hangs must not
hide behind the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, Final

from central_broker.stopping import Stop, stop_on_signals
from operations.notify import ServiceState

Work = Callable[[int, Stop, Callable[[], None]], None]
"""Called with the process's number from 0, when to stop, and what to call in every round."""

_LOOK_SECONDS: Final = 0.2
_RESTART_SECONDS_FIRST: Final = 0.5
_RESTART_SECONDS_MAX: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""After this long without dying, a process's next death counts as its first."""
_SILENCE_SECONDS_MAX: Final = 60.0
"""A round takes a second or so, and a batch on a struggling database some more."""
_STOP_SECONDS_MAX: Final = 30.0


class Health:
    """What the service says of itself to systemd and to the log."""

    def __init__(self, state: ServiceState, watchdog_seconds: float | None, status: str, log: Any) -> None:
        self._state = state
        self._watchdog_seconds = watchdog_seconds
        self._status = status
        self._next_watchdog = 0.0
        self.log = log

    def ready(self) -> None:
        self._state.ready(self._status)
        self.log.info("started", status=self._status)

    def alive(self) -> None:
        """Feed the watchdog when it is time to."""
        if self._watchdog_seconds is not None and time.monotonic() >= self._next_watchdog:
            self._state.watchdog()
            self._next_watchdog = time.monotonic() + self._watchdog_seconds / 2

    def stopping(self) -> None:
        self._state.stopping("stopping")
        self.log.info("stopping")


@dataclass
class _Place:
    """One process and its history; `beat` is shared memory that the child writes its monotonic time to."""

    number: int
    beat: Any
    process: BaseProcess | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = field(default=0.0)


def run_processes(work: Work, count: int, health: Health) -> None:
    """Run until SIGTERM or SIGINT; with a count of 1 in this very process."""
    with stop_on_signals() as stop:
        health.ready()
        if count == 1:
            work(0, stop, health.alive)
        else:
            _supervise(work, count, health, stop)
        health.stopping()


def _supervise(work: Work, count: int, health: Health, stop: Stop) -> None:
    # Forked, so that the opened keys need not be opened by each child anew. Nothing of ours has a thread here yet.
    context = multiprocessing.get_context("fork")
    places = [_Place(number, context.Value("d", time.monotonic())) for number in range(count)]
    while not stop.requested:
        for place in places:
            if place.process is not None and place.process.exitcode is not None:
                _note_death(place, health)
            if place.process is None and time.monotonic() >= place.next_start:
                place.beat.value = place.started = time.monotonic()
                place.process = context.Process(target=_child, args=(work, place, os.getpid()), daemon=False)
                place.process.start()
        if all(time.monotonic() - place.beat.value < _SILENCE_SECONDS_MAX for place in places):
            health.alive()
        time.sleep(_LOOK_SECONDS)
    _end(places)


def _child(work: Work, place: _Place, parent: int) -> None:
    with stop_on_signals() as stop:

        def alive() -> None:
            place.beat.value = time.monotonic()
            if os.getppid() != parent:  # the parent was killed; whoever starts a new one starts new children
                stop.request()

        work(place.number, stop, alive)


def _note_death(place: _Place, health: Health) -> None:
    status = None if place.process is None else place.process.exitcode
    steady = time.monotonic() - place.started > _STEADY_SECONDS
    place.failures = 0 if steady else place.failures + 1
    wait = min(_RESTART_SECONDS_MAX, _RESTART_SECONDS_FIRST * 2.0 ** min(place.failures, 8))
    place.process, place.next_start = None, time.monotonic() + wait
    health.log.error("process_died", number=place.number, status=status, restart_seconds=wait)


def _end(places: list[_Place]) -> None:
    running = [place.process for place in places if place.process is not None]
    for process in running:
        if process.pid is not None and process.exitcode is None:
            os.kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_SECONDS_MAX
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()
