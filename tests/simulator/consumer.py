"""A consumer of a simulated center: collect, accept, commit, acknowledge, and death between any two of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from central_broker.messages import Message, accept_messages, read_message
from central_broker.storage.batch_records import Batch
from central_broker.storage.contract import StorageUnavailable
from sync_protocol import topics
from tests.simulator.clockwork import SECOND
from tests.simulator.faults import Fault

if TYPE_CHECKING:
    from tests.simulator.center import Center

DATABASE_RETRY = 5 * SECOND
RESTART = 5 * SECOND
_COLLECT = SECOND // 10
_COMMIT = SECOND // 100
_MESSAGES_AT_ONCE = 20


class Consumer:
    """One consumer process, and the next one after it has died."""

    def __init__(self, name: str, center: Center, randomness: Random) -> None:
        self.name = name
        self.is_connected = True
        self._center = center
        self._random = randomness
        self._inbox: deque[Message] = deque()
        self._in_hand: Sequence[Message] = ()
        self._life = 0
        self._is_busy = False
        self._directories = center.directory_source()

    def receive(self, topic: str, payload: bytes) -> None:
        self._inbox.append(read_message(topic, payload, self._center.database.clock))
        self._proceed(_COLLECT)

    def _proceed(self, delay: int) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._later(delay, "accept", self._accept)

    def _later(self, delay: int, what: str, action: Callable[[], None]) -> None:
        life = self._life

        def act() -> None:
            if self._life == life:
                action()

        self._center.clockwork.after(delay, self.name, what, act)

    def _accept(self) -> None:
        self._in_hand = [self._inbox.popleft() for _ in range(min(_MESSAGES_AT_ONCE, len(self._inbox)))]
        self._try()

    def _try(self) -> None:
        if self._strikes(Fault.CONSUMER_DIES_BEFORE_COMMIT, self._center.troubles.dies_before_commit):
            self.restart()
            return
        try:
            batch, _ = accept_messages(self._in_hand, self._directories.current())
        except StorageUnavailable:
            self._later(DATABASE_RETRY, "accept again", self._try)
            return
        self._later(_COMMIT, "commit", lambda: self._commit(batch))

    def _commit(self, batch: Batch) -> None:
        try:
            self._center.commit(batch)
        except StorageUnavailable:
            self._later(DATABASE_RETRY, "accept again", self._try)
            return
        if self._strikes(Fault.COMMIT_ANSWER_LOST, self._center.troubles.answer_lost):
            self._later(DATABASE_RETRY, "accept again", self._try)
            return
        if self._strikes(Fault.CONSUMER_DIES_AFTER_COMMIT, self._center.troubles.dies_after_commit):
            self.restart()
            return
        self._later(_COMMIT, "acknowledge", self._acknowledged)

    def _acknowledged(self) -> None:
        self._is_busy = False
        self._in_hand = ()
        if self._inbox:
            self._proceed(0)

    def _strikes(self, fault: Fault, probability: float) -> bool:
        return self._center.faults.strikes(self.name, fault, probability)

    def restart(self) -> None:
        """End here; what was not acknowledged the broker delivers again, strands or loses."""
        unanswered = [*self._in_hand, *self._inbox]
        self._in_hand = ()
        self._inbox.clear()
        self.is_connected, self._is_busy = False, False
        self._life += 1
        self._later(RESTART, "start", self._start)
        for message in unanswered:
            if message.carrier is not None and self._random.random() >= self._center.troubles.stranded:
                self._center.broker.redeliver(topics.up_topic(message.carrier), message.payload)

    def _start(self) -> None:
        self.is_connected = True
        self._directories = self._center.directory_source()
