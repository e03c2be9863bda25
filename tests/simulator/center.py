"""The center of a simulated world: consumers, receipt publisher, operator; real acceptance, storage and receipts.

Every stage is an event of its own, so that anything may happen between two of them: collect, accept, commit,
acknowledge; take wants, sign, publish, finish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from central_broker.acceptance import decode_whole
from central_broker.broker_link import BrokerSettings
from central_broker.consumer import DirectorySource
from central_broker.receipt_publisher import PublisherSettings, ReceiptPublisher
from central_broker.retry import retry_held
from central_broker.statement_flood import statement_bundle
from central_broker.stopping import Stop
from central_broker.storage.batch_records import Batch, BatchResult, CertifiedDevice, CertifiedMedium
from central_broker.storage.contract import StorageUnavailable
from sync_protocol import topics
from sync_protocol.identity import Role, Standing, device_name, read_device_certificate
from sync_protocol.keys import Signer
from sync_protocol.medium import read_medium_certificate
from sync_protocol.statement import KEY_CERTIFICATE, Statement
from tests.simulator.authority import Authority
from tests.simulator.broker import Broker
from tests.simulator.clockwork import MINUTE, SECOND, Clockwork
from tests.simulator.consumer import DATABASE_RETRY, RESTART, Consumer
from tests.simulator.database import Database
from tests.simulator.faults import Fault, Faults
from tests.simulator.oracle import Oracle

_LEASE_OVER = 11 * SECOND


@dataclass(frozen=True)
class CenterTroubles:
    """Probabilities for each batch and each round of receipts."""

    dies_before_commit: float = 0
    dies_after_commit: float = 0
    answer_lost: float = 0
    publisher_dies: float = 0
    stranded: float = 0.1
    """Of the messages that a dead consumer had: lost with it instead of delivered again."""


class ProcessDeath(BaseException):
    """A process of the center ends here."""


class _PublisherLink:
    """The publisher's connection: what it publishes is out at once, and the process may die before or after."""

    def __init__(self, center: Center) -> None:
        self._center = center
        self._numbers = 0
        self.published: dict[int, bool] = {}

    @property
    def connected(self) -> bool:
        return self._center.broker.is_up

    def publish(self, topic: str, payload: bytes) -> int | None:
        if self._center.strikes_publisher(Fault.PUBLISHER_DIES_AFTER_ISSUE):
            raise ProcessDeath
        if not self.connected:
            return None
        self._center.broker.publish_down(topic, payload)
        self._numbers += 1
        self.published[self._numbers] = True
        if self._center.strikes_publisher(Fault.PUBLISHER_DIES_AMONG_RECEIPTS):
            raise ProcessDeath
        return self._numbers

    def pump(self, timeout_seconds: float) -> None:
        """Nothing is ever outstanding."""


class _DyingSigner:
    """The receipt key in a process that may die at any signature."""

    def __init__(self, signer: Signer, center: Center) -> None:
        self._signer = signer
        self._center = center

    @property
    def public_bytes(self) -> bytes:
        return self._signer.public_bytes

    def sign(self, message: bytes) -> bytes:
        if self._center.strikes_publisher(Fault.PUBLISHER_DIES_BEFORE_ISSUE):
            raise ProcessDeath
        return self._signer.sign(message)


class Center:
    """See the module."""

    def __init__(
        self,
        *,
        authority: Authority,
        database: Database,
        broker: Broker,
        clockwork: Clockwork,
        oracle: Oracle,
        faults: Faults,
        randomness: Callable[[str], Random],
        consumers: int,
    ) -> None:
        self.authority = authority
        self.database = database
        self.broker = broker
        self.clockwork = clockwork
        self.oracle = oracle
        self.faults = faults
        self.troubles = CenterTroubles()
        self.consumers = [
            Consumer(f"consumer-{number}", self, randomness(f"consumer-{number}")) for number in range(1, consumers + 1)
        ]
        broker.subscribers.extend(self.consumers)
        broker.on_up = self._broker_is_up
        self._publisher: ReceiptPublisher | None = None
        self._round_at: int | None = None
        self._flooded: int | None = None

    # The consumers' side.

    def directory_source(self) -> DirectorySource:
        authority = self.authority
        return DirectorySource(self.database.storage, trust=authority.trust(), secrets=list(authority.secrets))

    def commit(self, batch: Batch) -> BatchResult:
        """Record a batch, and let the oracle and the publisher know."""
        result = self.database.storage.commit(batch, decode_whole, self.database.clock)
        self._committed(batch, result)
        return result

    def _committed(self, batch: Batch, result: BatchResult) -> None:
        self.database.note_changes()
        links = [*(envelope.link for envelope in batch.envelopes), *(item.link for item in batch.held)]
        for link, outcome in zip(links, (*result.envelopes, *result.held), strict=True):
            if outcome.fork and link is not None:
                self.oracle.fork_told((link.origin, link.epoch, link.sequence))
        self.look_for_wants()

    # Receipts.

    def look_for_wants(self, delay: int = SECOND // 3) -> None:
        """Let the publisher look into the outbox soon."""
        at = self.clockwork.now + delay
        if self._round_at is None or at < self._round_at:
            self._round_at = at
            self.clockwork.at(at, "receipts", "round", lambda: self._round(at))

    def strikes_publisher(self, fault: Fault) -> bool:
        return self.faults.strikes("receipts", fault, self.troubles.publisher_dies)

    def _round(self, at: int) -> None:
        if self._round_at != at:
            return
        self._round_at = None
        publisher = self._publisher or self._start_publisher()
        try:
            if self.broker.is_up:
                self._flood()
                publisher.publish_once()
        except StorageUnavailable:
            self.look_for_wants(DATABASE_RETRY)
            return
        except ProcessDeath:
            self._publisher = None
            self.look_for_wants(RESTART)
            return
        if self.database.wants():
            self.look_for_wants(_LEASE_OVER)

    def _start_publisher(self) -> ReceiptPublisher:
        keys = self.authority.key_statements()
        self._publisher = ReceiptPublisher(
            PublisherSettings(BrokerSettings("broker", 0, "receipts", None)),
            self.database.storage,
            _PublisherLink(self),
            signer=_DyingSigner(self.authority.receipt_signer, self),
            certificates=[one for one in keys if one.kind == KEY_CERTIFICATE],
            now=lambda: self.database.clock,
            stop=Stop(),
        )
        return self._publisher

    def restart_publisher(self) -> None:
        """Let the next round be of a new process: after keys have changed, or the database is another one."""
        self._publisher = None
        self._flooded = None
        self.look_for_wants()

    def _flood(self) -> None:
        """Tell everyone the keys, and who is no longer active."""
        version = self.database.storage.directory_version()
        if version != self._flooded:
            self._flooded = version
            keys = self.authority.key_statements()
            storage = self.database.storage
            self.broker.publish_down(topics.STATEMENTS, statement_bundle(keys, storage.devices(), storage.media()))

    def _broker_is_up(self) -> None:
        """Retained messages are gone: what all shall know is told anew; receipts come when heads ask for them."""
        self._flooded = None
        self.look_for_wants()

    # The operator.

    def enrol(
        self, signer: Signer, name: str, *, standing: Standing = Standing.ACTIVE, role: Role = Role.TABLET
    ) -> Statement:
        """Certify a device, or say anew how it stands, and let the database know."""
        certificate = self.authority.certify(signer, name, standing=standing, role=role)
        device = device_name(signer.public_bytes)
        self.oracle.enrolled(device, is_active=standing is Standing.ACTIVE, at=self.clockwork.now)
        self.database.inner.store_devices(
            [CertifiedDevice(read_device_certificate(certificate), certificate.data)], self.database.clock
        )
        self.look_for_wants()
        return certificate

    def give_medium_standing(self, medium: bytes, number: str, standing: Standing) -> None:
        """Say anew how a medium stands, and let the database know."""
        self._store_medium(self.authority.certify_medium(medium, number, standing))
        self.look_for_wants()

    def _store_medium(self, certificate: Statement) -> None:
        known = CertifiedMedium(read_medium_certificate(certificate), certificate.data)
        self.database.inner.store_media([known], self.database.clock)

    def allow_form(self, form: str) -> None:
        self.database.inner.allow_form(form)

    def retry_held(self) -> None:
        """Accept again what is held."""
        ids = [record.id for record in self.database.inner.held()]
        retry_held(self.database.inner, self.directory_source().current(), ids, self.database.clock)
        self.database.note_changes()
        self.look_for_wants()

    def rotate_recipient_key(self) -> None:
        self.authority.rotate_recipient_key()
        for consumer in self.consumers:
            consumer.restart()
        self.restart_publisher()

    def rotate_receipt_key(self) -> None:
        self.authority.rotate_receipt_key()
        for consumer in self.consumers:
            consumer.restart()
        self.restart_publisher()

    def restore(self, *, later: bool = False, backups_ago: int = 0) -> bool:
        """Put the database back to a backup, as the operating guide says: every process starts anew, the broker too."""
        if not self.database.restore(later=later, backups_ago=backups_ago):
            return False
        for consumer in self.consumers:
            consumer.restart()
        for certificate in self.authority.issued.values():
            self.database.inner.store_devices(
                [CertifiedDevice(read_device_certificate(certificate), certificate.data)], self.database.clock
            )
        for certificate in self.authority.media.values():
            self._store_medium(certificate)
        self.restart_publisher()
        self.broker.crash(down_for=MINUTE)
        return True
