"""A field whose parts are killed again and again, each after a schedule of its own that a seed decides.

A victim lives, is killed with SIGKILL (after a time, or by itself at a chosen moment: see `dying`), stays down for a
while, and lives again. The same seed gives every victim the same lives; how they fall together is the machine's affair.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import msgspec

from demo.field import Device, Field
from demo.households import households
from demo.processes import RunningProcess, wait_until
from edge_agent.queue.intake.local_protocol import LocalProtocolError
from tests.support.postgresql import PostgresqlCluster
from tests.support.shared_data import PROJECT_FOLDER

_LIFE_SECONDS: Final = (1.0, 6.5)
_DOWN_SECONDS: Final = (0.0, 1.2)
_AIMED_SHARE: Final = 0.65
_AIMED_COUNT_MAX: Final = 2
_AIMED_SECONDS_MAX: Final = 10.0
"""A life whose moment does not come is ended from outside after this long."""
_CUT_SECONDS: Final = (0.2, 2.0)
_NO_DATABASE: Final = "the census database cannot be asked"
_LARGE_EVERY: Final = 40
_LARGE_BYTES: Final = 400_000
_CHUNK_MAX: Final = 6
_READY_SECONDS: Final = 30.0


@dataclass
class Victim:
    """Something that can be launched, under these words if it shall die by itself, and killed."""

    name: str
    kind: str
    launch: Callable[..., None]
    process: Callable[[], RunningProcess | None]
    kill: Callable[[], None]
    moments: Sequence[str] = ()


def victims_of(made: Field, cluster: PostgresqlCluster | None, consumers: int = 2) -> list[Victim]:
    """Every process of a field; the cluster too, when there is one."""
    center = made.center
    found = [
        Victim("broker", "broker", center.start_broker, lambda: center.broker, lambda: _kill(center.broker)),
        Victim(
            "publisher",
            "receipt publisher",
            lambda *before: center.start_publisher(1, *before),
            lambda: center.publishers.get(1),
            lambda: _kill(center.publishers.get(1)),
            ("between sign and publish", "between publish and finish"),
        ),
    ]
    for number in range(1, consumers + 1):
        found.append(
            Victim(
                f"consumer {number}",
                "consumer",
                lambda *before, number=number: center.start_consumer(number, *before),
                lambda number=number: center.consumers.get(number),  # type: ignore[misc]  # mypy and lambda defaults
                lambda number=number: _kill(center.consumers.get(number)),  # type: ignore[misc]  # the same
                ("before commit", "between commit and acknowledgement"),
            )
        )
    for device in made.devices:
        found.append(
            Victim(
                device.name,
                "agent",
                lambda *before, device=device: _launch(device, *before),
                lambda device=device: device.process,  # type: ignore[misc]  # mypy and lambda defaults
                lambda device=device: _kill(device.process),  # type: ignore[misc]  # the same
                ("between accept and reply",),
            )
        )
    if cluster is not None:
        found.append(Victim("postgresql", "PostgreSQL", lambda: _start(cluster), lambda: None, cluster.kill9))
    return found


def _launch(device: Device, *before: str) -> None:
    device.launch(*before)


def _kill(process: RunningProcess | None) -> None:
    if process is not None:
        process.kill9()


def _start(cluster: PostgresqlCluster) -> None:
    if not cluster.is_running:
        cluster.start()


@dataclass
class Killer:
    """Runs the lives of all victims, each in a thread; counts deaths by kind and moment."""

    seed: int
    victims: Sequence[Victim]
    lives: Callable[[Victim], int]
    made: Field
    deaths: Counter[tuple[str, str]] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    faults: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Return when every victim has died as often as it should, and lives; links are up."""
        ended = threading.Event()
        cutters = [threading.Thread(target=self._cut, args=(device, ended)) for device in self.made.devices]
        threads = [threading.Thread(target=self._live, args=(victim,)) for victim in self.victims]
        for thread in (*threads, *cutters):
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        for thread in cutters:
            thread.join()
        if self.faults:
            raise self.faults[0]
        self._revive()

    def _live(self, victim: Victim) -> None:
        chance = random.Random(f"{self.seed}/{victim.name}")
        try:
            for _ in range(self.lives(victim)):
                aimed = bool(victim.moments) and chance.random() < _AIMED_SHARE
                moment, number = chance.choice(victim.moments or ("",)), chance.randint(1, _AIMED_COUNT_MAX)
                life, down = chance.uniform(*_LIFE_SECONDS), chance.uniform(*_DOWN_SECONDS)
                if not _lives(victim):
                    victim.launch(*(_dying(moment, number) if aimed else ()))
                how = moment if aimed and _dies_by_itself(victim) else "at any moment"
                while how == "at any moment":
                    time.sleep(0.0 if aimed else life)
                    if self._kill(victim):
                        break
                    victim.launch()
                with self._lock:
                    self.deaths[victim.kind, how] += 1
                time.sleep(down)
            victim.launch()
        except BaseException as fault:
            self.faults.append(fault)

    def _kill(self, victim: Victim) -> bool:
        """Kill it; False when it had ended by itself, as services do that start while their database is down."""
        process = victim.process()
        if process is None or process.is_alive:
            victim.kill()
            return True
        if process.exit_status != 1 or _NO_DATABASE not in process.log_tail():
            raise AssertionError(f"{victim.name} ended with status {process.exit_status}\n{process.log_tail()}")
        with self._lock:
            self.restarts[victim.kind] += 1
        return False

    def _revive(self) -> None:
        """Start again, as the service manager would, what could not start while something was down."""
        for victim in self.victims:
            process = victim.process()
            if process is not None and not process.is_alive:
                self._kill(victim)
                victim.launch()

    def _cut(self, device: Device, ended: threading.Event) -> None:
        chance = random.Random(f"{self.seed}/link of {device.name}")
        while not ended.wait(chance.uniform(*_LIFE_SECONDS)):
            stalled = chance.random() < 0.3
            (device.relay.stall if stalled else device.relay.cut)()
            with self._lock:
                self.cuts["stalled" if stalled else "cut"] += 1
            ended.wait(chance.uniform(*_CUT_SECONDS))
            device.relay.heal()

    def report(self) -> str:
        """Return the deaths by kind and moment, for people."""
        lines = [f"  {number:4d}  {kind}, {how}" for (kind, how), number in sorted(self.deaths.items())]
        cuts = ", ".join(f"{number} {what}" for what, number in sorted(self.cuts.items()))
        lines += [
            f"  {number:4d}  starts again for want of a database, {kind}" for kind, number in self.restarts.items()
        ]
        return "\n".join([f"{self.deaths.total()} kills with seed {self.seed}; links: {cuts}", *lines])


def _dying(moment: str, number: int) -> tuple[str, ...]:
    # The folder of the tests need not be where the programs are started from.
    program = f"import sys; sys.path.insert(0, {str(PROJECT_FOLDER)!r}); from tests.support.dying import main; main()"
    return sys.executable, "-c", program, moment, str(number)


def _lives(victim: Victim) -> bool:
    """Whether it has been started already, as the field's broker has."""
    process = victim.process()
    return process is not None and process.is_alive


def _dies_by_itself(victim: Victim) -> bool:
    """Wait for the moment that the victim was armed for; False when it has not come in time, or it ended before."""
    until = time.monotonic() + _AIMED_SECONDS_MAX
    process = victim.process()
    while process is not None and process.is_alive:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return process is not None and process.exit_status == -signal.SIGKILL


def questionnaires(seed: int, tablet: int) -> Iterator[bytes]:
    """Yield endlessly many different questionnaires: some with ids of their own, some without, some large."""
    chance = random.Random(f"{seed}/questionnaires of {tablet}")
    for number, body in zip(count(1), households(seed * 100 + tablet, 1_000_000_000), strict=False):
        if number % _LARGE_EVERY == 0:
            document = msgspec.json.decode(body)
            yield msgspec.json.encode({**document, "photograph": chance.randbytes(_LARGE_BYTES // 2).hex()})
        elif number % 2:
            yield body
        else:
            document = msgspec.json.decode(body)
            del document["meta"]
            yield msgspec.json.encode({**document, "visit": f"{tablet}/{number}"})


@dataclass
class FormProgram:
    """A client on one tablet: submits, and repeats with the same keys until it is answered."""

    device: Device
    supply: Iterator[bytes]
    seed: int
    handed_over: list[bytes] = field(default_factory=list)
    repeats: int = 0
    fault: BaseException | None = None

    def run(self, ended: threading.Event) -> None:
        """Submit until told to end; what was begun is repeated until it is acknowledged."""
        chance = random.Random(f"{self.seed}/program on {self.device.name}")
        try:
            while not ended.is_set():
                chunk = [next(self.supply) for _ in range(chance.randint(1, _CHUNK_MAX))]
                keys = [f"visit {len(self.handed_over) + number}" for number in range(len(chunk))]
                while not self._submit(chunk, keys):
                    self.repeats += 1
                    time.sleep(0.05)
                self.handed_over.extend(chunk)
                time.sleep(chance.uniform(0.0, 0.3))
        except BaseException as fault:
            self.fault = fault

    def _submit(self, chunk: Sequence[bytes], keys: Sequence[str]) -> bool:
        try:
            self.device.submit(chunk, keys=keys)
        except (OSError, LocalProtocolError):
            return False
        return True


def submit_while(programs: Sequence[FormProgram], happening: Callable[[], None]) -> None:
    """Let the programs submit until the happening is over and everything they began is acknowledged."""
    ended = threading.Event()
    threads = [threading.Thread(target=program.run, args=(ended,), daemon=True) for program in programs]
    for thread in threads:
        thread.start()
    try:
        happening()
    finally:
        ended.set()
        for thread in threads:
            thread.join(_READY_SECONDS)
    for program in programs:
        if program.fault is not None:
            raise program.fault
    assert not any(thread.is_alive() for thread in threads), "a program is still waiting for its answer"


def wait_until_ready(made: Field) -> None:
    """Wait until every daemon answers."""

    def answers(device: Device) -> bool:
        try:
            device.status()
        except OSError:
            return False
        return True

    for device in made.devices:
        wait_until(lambda device=device: answers(device), f"{device.name} answers", timeout_seconds=_READY_SECONDS)  # type: ignore[misc]  # mypy and lambda defaults
