"""The consumer: bundles from the broker into the census database. Commit, then acknowledge; never the other way round.

    receive ── collect ── accept ── commit ── acknowledge
                             ▲         │ database down: wait, keep the connection alive, acknowledge nothing
                             └─────────┘

While one batch is being committed, on a thread that alone uses the database, the next is verified and opened: waiting
for the disk costs nothing. Any number of consumer processes share one subscription. Whatever they lose (killed between
commit and acknowledgement, say) comes again, from the broker or from the edge, and the database knows it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import structlog

from central_broker.acceptance import whole_decoder
from central_broker.broker_link import BrokerLink, BrokerSettings, Jitter, Received, Subscription
from central_broker.directory import Directory
from central_broker.forms.registry import FormRegistry
from central_broker.messages import Message, accept_messages, read_message
from central_broker.reprocessing import known_forms
from central_broker.stopping import Stop
from central_broker.storage.batch_records import Batch, BatchResult, Outcome, OutcomeKind
from central_broker.storage.contract import Storage, StorageUnavailable
from sync_protocol import topics
from sync_protocol.identity import Trust
from sync_protocol.keys import RecipientSecret

_IDLE_SECONDS: Final = 0.5
_STORAGE_RETRY_SECONDS_FIRST: Final = 0.25
_STORAGE_RETRY_SECONDS_MAX: Final = 10.0

Clock = Callable[[], int]
"""Now, in microseconds since 1970 UTC."""


@dataclass(frozen=True)
class ConsumerSettings:
    """How a consumer connects and collects; the client id must be the same at every start of this instance.

    `group` is the center's shared subscription, which nobody else may know (`consumer_subscription`).
    `session_expiry_seconds` is short on purpose: brokers go on giving a dead consumer its share as long as its session
    lives, so it should outlast a restart and little more.
    """

    broker: BrokerSettings
    group: str
    batch_envelopes: int = 200
    batch_milliseconds: int = 100
    session_expiry_seconds: int = 60
    receive_maximum: int = 64


class DirectorySource:
    """The directory, loaded anew when devices or forms have changed."""

    def __init__(self, storage: Storage, *, trust: Trust, secrets: Sequence[RecipientSecret]) -> None:
        self._storage = storage
        self._trust = trust
        self._secrets = secrets
        self._version: int | None = None
        self._directory: Directory | None = None
        self._registry = FormRegistry()

    def current(self) -> Directory:
        """Return the directory as it is now; raises StorageUnavailable."""
        version = self._storage.directory_version()
        if self._directory is None or version != self._version:
            self._registry = known_forms(self._storage, self._registry)
            self._directory = Directory(
                trust=self._trust,
                secrets=self._secrets,
                devices=self._storage.devices(),
                forms=self._storage.forms(),
                registry=self._registry,
            )
            self._version = version
        return self._directory


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message, and what to acknowledge it by."""

    received: Received
    message: Message


@dataclass(frozen=True, slots=True)
class _Recorded:
    batch: Batch
    result: BatchResult
    seconds: float


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Messages whose batch is with the database's thread."""

    messages: Sequence[_Taken]
    recording: Future[_Recorded]


class Consumer:
    """Collects messages into batches and brings each into the database; see the module."""

    def __init__(
        self,
        settings: ConsumerSettings,
        storage: Storage,
        link: BrokerLink,
        directories: DirectorySource,
        *,
        now: Clock,
        stop: Stop,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._link = link
        self._directories = directories
        self._now = now
        self._stop = stop
        self._alive = alive
        self._directory: Directory | None = None
        self._log = structlog.get_logger("consumer").bind(client_id=settings.broker.client_id)

    def run(self) -> None:
        """Work until asked to stop; batches in hand are finished, unless the database cannot take them."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="database") as database:
            under_way: _UnderWay | None = None
            while not self._stop.requested:
                self._alive()
                messages = self._collect(_IDLE_SECONDS if under_way is None else 0)
                following = self._begin(messages, database, busy=under_way is not None) if messages else None
                if under_way is not None and not self._conclude(under_way, database):
                    return
                under_way = following
            if under_way is not None:
                self._conclude(under_way, database)

    def _begin(self, messages: Sequence[_Taken], database: ThreadPoolExecutor, *, busy: bool) -> _UnderWay:
        """Have a batch recorded. While another one is, this one is accepted here at the same time."""
        if not busy or self._directory is None:
            return _UnderWay(messages, database.submit(self._accept_and_record, messages))
        # What the directory says may be as old as the batch before.
        batch = self._accept(messages, self._directory)
        return _UnderWay(messages, database.submit(self._record, batch))

    def _conclude(self, under_way: _UnderWay, database: ThreadPoolExecutor) -> bool:
        """Wait for the commit, then acknowledge; False only when asked to stop while the database is down."""
        failures = 0
        recording = under_way.recording
        while True:
            while not wait([recording], _IDLE_SECONDS).done:
                self._link.pump(0)
            try:
                recorded = recording.result()
            except StorageUnavailable as error:
                delay = min(_STORAGE_RETRY_SECONDS_MAX, _STORAGE_RETRY_SECONDS_FIRST * 2.0 ** min(failures, 8))
                failures += 1
                count = len(under_way.messages)
                self._log.error("database_unavailable", why=str(error), retry_seconds=delay, messages=count)
                if not self._wait(delay):
                    return False
                # Accepted again: the database that answers now may know other devices.
                recording = database.submit(self._accept_and_record, under_way.messages)
                continue
            self._report(under_way.messages, recorded)
            for taken in under_way.messages:
                self._link.acknowledge(taken.received)
            self._link.pump(0)
            return True

    def _accept_and_record(self, messages: Sequence[_Taken]) -> _Recorded:
        """Runs on the database's thread."""
        self._directory = self._directories.current()
        return self._record(self._accept(messages, self._directory))

    def _record(self, batch: Batch) -> _Recorded:
        """Runs on the database's thread."""
        started = time.perf_counter()
        self._directory = self._directories.current()
        result = self._storage.commit(batch, whole_decoder(self._directory.registry), self._now())
        return _Recorded(batch, result, time.perf_counter() - started)

    def _collect(self, idle_seconds: float) -> list[_Taken]:
        """Return messages as soon as they are enough for a batch, or the first has waited long enough."""
        messages: list[_Taken] = []
        envelopes = 0
        self._link.pump(0)
        deadline = time.monotonic() + idle_seconds
        while envelopes < self._settings.batch_envelopes:
            if not self._link.received:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._stop.requested:
                    break
                self._link.pump(remaining)
                continue
            received = self._link.received.popleft()
            taken = _Taken(received, read_message(received.topic, received.payload, self._now()))
            if not messages:
                deadline = time.monotonic() + self._settings.batch_milliseconds / 1000
            messages.append(taken)
            envelopes += taken.message.envelopes
        return messages

    def _wait(self, seconds: float) -> bool:
        """Keep the connection alive for a while; False when asked to stop. receive_maximum bounds what arrives."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            if self._stop.requested:
                return False
            self._alive()
            self._link.pump(min(remaining, _IDLE_SECONDS))
        return True

    def _accept(self, messages: Sequence[_Taken], directory: Directory) -> Batch:
        batch, ignored = accept_messages([taken.message for taken in messages], directory)
        if ignored:
            self._log.warning("ignored", frames=dict(ignored))
        return batch

    def _report(self, messages: Sequence[_Taken], recorded: _Recorded) -> None:
        batch, result = recorded.batch, recorded.result
        kinds = Counter(outcome.kind for outcome in result.envelopes)
        self._log.info(
            "committed",
            committed=kinds[OutcomeKind.STORED],
            duplicates=kinds[OutcomeKind.DUPLICATE],
            joined=result.joined,
            heads=len(batch.heads),
            messages=len(messages),
            committed_at=result.committed_at,
            commit_milliseconds=round(recorded.seconds * 1000, 1),
        )
        outcomes = (*result.envelopes, *result.held)
        reasons = Counter(one.reason.value for one in outcomes if one.kind is OutcomeKind.HELD and one.reason)
        if reasons:
            self._log.warning("held", reasons=dict(reasons))
        self._report_forks(batch, outcomes)
        for taken in messages:
            if taken.message.contents is None or taken.message.contents.skipped:
                self._report_skipped(taken.message)

    def _report_forks(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        links = [*(envelope.link for envelope in batch.envelopes), *(item.link for item in batch.held)]
        for link, outcome in zip(links, outcomes, strict=True):
            if outcome.fork and link is not None:
                self._log.error("fork", origin=link.origin.hex(), epoch=link.epoch, sequence=link.sequence)

    def _report_skipped(self, message: Message) -> None:
        skipped = message.contents.skipped if message.contents else ()
        self._log.warning(
            "bundle_damaged",
            carrier=message.carrier.hex() if message.carrier else None,
            payload_bytes=len(message.payload),
            oversized=message.contents is None,
            salvaged_frames=len(message.contents.frames) if message.contents else 0,
            skipped_bytes=sum(one.length for one in skipped),
            reasons=sorted({one.reason for one in skipped})[:5],
        )


def run_consumer(
    settings: ConsumerSettings,
    storage: Storage,
    *,
    trust: Trust,
    secrets: Sequence[RecipientSecret],
    now: Clock,
    jitter: Jitter,
    stop: Stop,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Consume until `stop` is requested; `alive` is called in every round, for a watchdog.

    The caller closes `storage`.
    """
    topic = topics.consumer_subscription(settings.group)
    subscription = Subscription(topic, settings.session_expiry_seconds, settings.receive_maximum)
    link = BrokerLink(settings.broker, jitter=jitter, subscription=subscription)
    directories = DirectorySource(storage, trust=trust, secrets=secrets)
    try:
        Consumer(settings, storage, link, directories, now=now, stop=stop, alive=alive).run()
    finally:
        link.close()
