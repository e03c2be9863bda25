"""What `edge-agent media enrol` asks of the daemon: it has the key that certifies, and the queue of what is known."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.media import Enrolled, judge_medium, news_of_medium
from edge_agent.engine.medium_enrolment import CertifiedIdentity, EnrolmentRefused, MediumWords, certify_new_medium
from edge_agent.engine.ports import QueueDesk
from operations.journal import get_logger

log = get_logger()


class MediumEnrolment:
    """`draw_name` gives 16 random bytes; `clock` microseconds since 1970."""

    def __init__(
        self, queue: QueueDesk, identity: DeviceIdentity, *, draw_name: Callable[[], bytes], clock: Callable[[], int]
    ) -> None:
        self._queue = queue
        self._identity = identity
        self._draw_name = draw_name
        self._clock = clock

    async def certify(self, words: MediumWords) -> CertifiedIdentity | EnrolmentRefused:
        """Certify a new medium; nobody knows of it before `record`. Raises StoreFault."""
        medium, now = self._draw_name(), self._clock()
        return await self._queue.ask(
            lambda transaction: certify_new_medium(medium, words, transaction, self._identity, now)
        )

    async def record(self, identity: bytes) -> Enrolled | EnrolmentRefused:
        """Take into the queue what now lies on a medium: the center is told of it. Raises StoreFault."""
        news = await self._queue.ask(lambda transaction: news_of_medium(identity, transaction, self._identity))
        for one in news:
            await self._queue.learn(one)
        verdict = await self._queue.ask(lambda transaction: judge_medium(identity, transaction, self._identity))
        if not isinstance(verdict, Enrolled):
            return EnrolmentRefused(f"the medium is not to be used: {verdict.value}", "enrol it once more")
        log.info("medium_enrolled", medium=verdict.medium, number=verdict.number)
        return verdict
