"""The receipt publisher: takes origins out of the outbox, signs their receipts, publishes them retained.

    take (lease) ── issue under the receipt locks ── publish ── PUBACK ── finish, unless wanted again

Any number of publishers may run, and each may die anywhere: until it is finished, a want stays in the outbox, and its
lease ends. An answer that is lost costs a repetition, which devices know by its serial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from central_broker.broker_link import BrokerLink, BrokerSettings, Jitter
from central_broker.receipt_maker import ReceiptMaker
from central_broker.stopping import Stop
from central_broker.storage.contract import Storage, StorageUnavailable
from central_broker.storage.receipt_records import Want
from sync_protocol import topics
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.keys import Signer
from sync_protocol.statement import Statement

_STORAGE_RETRY_SECONDS_MAX: Final = 10.0

Clock = Callable[[], int]
"""Now, in microseconds since 1970 UTC."""


class Outlet(Protocol):
    """What of a `BrokerLink` a publisher uses."""

    published: dict[int, bool]

    @property
    def connected(self) -> bool: ...

    def pump(self, timeout_seconds: float) -> None: ...

    def publish(self, topic: str, payload: bytes) -> int | None: ...


@dataclass(frozen=True)
class PublisherSettings:
    """How often to look, how many origins at once, and how long they are ours."""

    broker: BrokerSettings
    poll_seconds: float = 0.3
    origins_at_once: int = 64
    lease_seconds: float = 10.0
    answer_seconds: float = 5.0
    """How long to wait for the broker's answers before the wants are left to the end of their lease."""


class ReceiptPublisher:
    """See the module."""

    def __init__(
        self,
        settings: PublisherSettings,
        storage: Storage,
        link: Outlet,
        *,
        signer: Signer,
        certificates: Sequence[Statement],
        now: Clock,
        stop: Stop,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._link = link
        self._maker = ReceiptMaker(signer)
        self._certificates = [Frame(FrameType.STATEMENT, statement.data) for statement in certificates]
        self._now = now
        self._stop = stop
        self._alive = alive
        self._log = structlog.get_logger("receipt_publisher").bind(client_id=settings.broker.client_id)

    def run(self) -> None:
        """Publish until asked to stop."""
        failures = 0
        while not self._stop.requested:
            self._alive()
            try:
                # Without the broker nothing can be finished: the wants are left to a publisher that has one.
                worked = self._link.connected and self.publish_once()
                failures = 0
            except StorageUnavailable as error:
                self._maker.forget()
                delay = min(_STORAGE_RETRY_SECONDS_MAX, self._settings.poll_seconds * 2.0 ** min(failures, 8))
                failures += 1
                self._log.error("database_unavailable", why=str(error), retry_seconds=delay)
                self._wait(delay)
                continue
            if not worked:
                self._wait(self._settings.poll_seconds)

    def publish_once(self) -> bool:
        """Publish what is wanted now; False when nothing is. Raises StorageUnavailable."""
        lease = int(self._settings.lease_seconds * 1_000_000)
        wants = self._storage.take_wants(self._settings.origins_at_once, self._now(), lease)
        if not wants:
            return False
        try:
            with self._storage.issue_receipts([want.origin for want in wants], self._now()) as issue:
                receipts = self._maker.make(issue, wants)
        except BaseException:
            self._maker.forget()
            raise
        # Only now, after the commit: a receipt that the database does not know must not be out.
        numbers = {}
        for want in wants:
            bundle = write_bundle([*self._certificates, Frame(FrameType.STATEMENT, receipts[want.origin])])
            number = self._link.publish(topics.receipts_topic(want.origin), bundle)
            if number is not None:
                numbers[number] = want
        self._finish(numbers)
        return True

    def _finish(self, numbers: dict[int, Want]) -> None:
        deadline = time.monotonic() + self._settings.answer_seconds
        answers: dict[int, bool] = {}
        while numbers.keys() - answers.keys() and self._link.connected and time.monotonic() < deadline:
            self._link.pump(0.1)
            answers.update(self._link.published)
            self._link.published.clear()
        taken = [want for number, want in numbers.items() if answers.get(number)]
        if taken:
            self._storage.finish_wants(taken)
        self._log.info("receipts_published", receipts=len(taken), unanswered=len(numbers) - len(taken))

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0 and not self._stop.requested:
            self._link.pump(remaining)


def run_receipt_publisher(
    settings: PublisherSettings,
    storage: Storage,
    *,
    signer: Signer,
    certificates: Sequence[Statement],
    now: Clock,
    jitter: Jitter,
    stop: Stop,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Publish receipts until `stop` is requested; `certificates` go with each. The caller closes `storage`."""
    link = BrokerLink(settings.broker, jitter=jitter)
    publisher = ReceiptPublisher(
        settings, storage, link, signer=signer, certificates=certificates, now=now, stop=stop, alive=alive
    )
    try:
        publisher.run()
    finally:
        link.close()
