"""Commands `consume` and `receipts`: the center's two services."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from central_broker.commands.context import CenterContext, now, pass_center
from central_broker.commands.supervision import Health, run_processes
from central_broker.configuration import Configuration
from central_broker.storage import open_storage
from operations.journal import configure_logging, get_logger
from operations.notify import ServiceState, watchdog_interval_seconds

if TYPE_CHECKING:
    from central_broker.authority import AuthorityRecord
    from central_broker.broker_link import BrokerSettings
    from central_broker.stopping import Stop
    from central_broker.storage.contract import Storage
    from sync_protocol.keys import SigningKey

_SENTENCES = {
    "committed": "{committed} committed, {duplicates} known already ({messages} messages)",
    "held": "held: {reasons}",
    "fork": "ALARM: device {origin} put two envelopes at place {epoch}/{sequence} of its chain",
    "receipts_published": "{receipts} receipts published",
    "database_unavailable": "the database cannot be asked ({why}); next try in {retry_seconds} s",
    "broker_connected": "connected to the broker as {client_id}",
    "broker_lost": "{why}; next try in {retry_seconds} s",
}
_FLOOD_SECONDS = 60.0
_LISTS_AT_ONCE = 50  # of some kilobytes each, between two looks at the outbox
_INSTANCE_HELP = "Tells apart services on one machine; the same at every start.  [0]"


@click.command(
    epilog="""\b
Examples:
  central-broker consume
  central-broker consume --processes 4            as many as there are cores to spare
  central-broker --passphrase-file /run/keys/pass consume
Needs of all secrets only those in secrets/consumer. Stop with SIGTERM: the batch in hand is finished.
"""
)
@click.option("--processes", type=click.IntRange(1, 64), help="How many consumers.  [consumer.processes]")
@click.option("--instance", default="0", help=_INSTANCE_HELP)
@pass_center
def consume(center: CenterContext, processes: int | None, instance: str) -> None:
    """Take envelopes from the broker into the census database: verify, open, commit, and only then acknowledge."""
    configuration = center.configuration()
    _configure(configuration, "census-consumer")
    files = center.files(configuration)
    secrets = files.recipient_keys()
    trust = files.trust()
    open_storage(configuration.database.url).close()  # a wrong address shows before anything is forked

    def work(number: int, stop: Stop, alive: Callable[[], None]) -> None:
        from central_broker.consumer import ConsumerSettings, run_consumer

        settings = ConsumerSettings(
            broker=_broker(configuration, "consumer", f"{instance}-{number}"),
            group=configuration.consumer.group,
            batch_envelopes=configuration.consumer.batch_envelopes_max,
            batch_milliseconds=configuration.consumer.batch_wait_milliseconds,
            receive_maximum=configuration.broker.in_flight_max,
        )
        storage = open_storage(configuration.database.url)
        try:
            run_consumer(
                settings, storage, trust=trust, secrets=secrets, now=now, jitter=_jitter, stop=stop, alive=alive
            )
        finally:
            storage.close()

    count = processes or configuration.consumer.processes
    run_processes(work, count, _health(f"{count} consumers on {configuration.broker.center_address}"))


@click.command(
    epilog="""\b
Examples:
  central-broker receipts
Any number may run. Needs of all secrets only those in secrets/receipts. Stop with SIGTERM.
"""
)
@click.option("--instance", default="0", help=_INSTANCE_HELP)
@pass_center
def receipts(center: CenterContext, instance: str) -> None:
    """Sign and publish the receipts that tell tablets what is committed, and what else devices shall know."""
    configuration = center.configuration()
    _configure(configuration, "census-receipts")
    files = center.files(configuration)
    signer = files.receipt_key()
    authority = files.authority()

    def work(_number: int, stop: Stop, alive: Callable[[], None]) -> None:
        storage = open_storage(configuration.database.url)
        try:
            _publish(
                configuration, storage, signer=signer, authority=authority, instance=instance, stop=stop, alive=alive
            )
        finally:
            storage.close()

    run_processes(work, 1, _health(f"receipts to {configuration.broker.center_address}"))


def _publish(
    configuration: Configuration,
    storage: Storage,
    *,
    signer: SigningKey,
    authority: AuthorityRecord,
    instance: str,
    stop: Stop,
    alive: Callable[[], None],
) -> None:
    from central_broker.broker_link import BrokerLink
    from central_broker.receipt_publisher import PublisherSettings, ReceiptPublisher
    from sync_protocol.statement import KEY_CERTIFICATE

    settings = PublisherSettings(
        broker=_broker(configuration, "receipts", instance),
        poll_seconds=configuration.receipts.interval_milliseconds / 1000,
        origins_at_once=configuration.receipts.batch_origins_max,
    )
    link = BrokerLink(settings.broker, jitter=_jitter)
    flood = _Flood(storage, authority, link.publish, lambda: link.connected)

    def alive_and_flooding() -> None:
        alive()
        flood.tick()

    try:
        ReceiptPublisher(
            settings,
            storage,
            link,
            signer=signer,
            certificates=[one for one in authority.statements() if one.kind == KEY_CERTIFICATE],
            now=now,
            stop=stop,
            alive=alive_and_flooding,
        ).run()
    finally:
        link.close()


class _Flood:
    """Publishes the statements for everyone when they have changed, and again now and then: the broker forgets."""

    def __init__(
        self,
        storage: Storage,
        authority: AuthorityRecord,
        publish: Callable[[str, bytes], int | None],
        connected: Callable[[], bool],
    ) -> None:
        self._storage = storage
        self._keys = authority.statements()
        self._delegations = authority.delegation_statements()
        self._publish = publish
        self._connected = connected
        self._version: int | None = None
        self._next = 0.0
        self._list_turn = 0
        self._forms: dict[bytes, bytes] = {}
        """What was published of forms over this connection, by subject: they are large, and every device is sent each
        anew."""

    def tick(self) -> None:
        """Publish if there is something new, or it is time to. Raises StorageUnavailable for nobody: tries later."""
        from central_broker.statement_flood import form_bundles, statement_bundle
        from central_broker.storage.contract import StorageUnavailable
        from sync_protocol.topics import STATEMENTS, forms_topic

        if not self._connected():
            self._next = 0.0
            self._list_turn = 0
            self._forms.clear()
            return
        try:
            self._publish_lists()
            version = self._storage.directory_version()
            if version == self._version and time.monotonic() < self._next:
                return
            bundle = statement_bundle(self._keys, self._storage.devices(), self._storage.media(), self._delegations)
            forms = form_bundles(self._keys, self._storage.form_records(), self._storage.form_files())
        except StorageUnavailable:
            return
        sent = [self._publish(STATEMENTS, bundle)]
        for subject, form in forms:
            if self._forms.get(subject) != form:
                sent.append(self._publish(forms_topic(subject), form))
                if sent[-1] is not None:
                    self._forms[subject] = form
        if None not in sent:
            self._version, self._next = version, time.monotonic() + _FLOOD_SECONDS

    def _publish_lists(self) -> None:
        """Publish some of the lists that were not published over this connection; raises StorageUnavailable."""
        from central_broker.statement_flood import vouched_bundle
        from sync_protocol.statement import parse_statement
        from sync_protocol.topics import lists_topic

        for turn, statement in self._storage.counted_lists(self._list_turn, _LISTS_AT_ONCE):
            source = parse_statement(statement)
            if self._publish(lists_topic(source.subject), vouched_bundle(self._keys, source)) is None:
                return
            self._list_turn = turn


def _broker(configuration: Configuration, purpose: str, instance: str) -> BrokerSettings:
    """The connection of one process: on the center's listener, with the certificate of its purpose."""
    import ssl

    from central_broker.broker_link import BrokerSettings

    tls = configuration.tls
    consumer = purpose == "consumer"
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(
        tls.consumer_certificate if consumer else tls.receipts_certificate,
        tls.consumer_key if consumer else tls.receipts_key,
    )
    client_id = f"{purpose}-{socket.gethostname()}-{instance}"
    return BrokerSettings(configuration.broker.center_address, configuration.broker.center_port, client_id, context)


def _configure(configuration: Configuration, identifier: str) -> None:
    configure_logging(identifier, style=configuration.log.style, level=configuration.log.level, sentences=_SENTENCES)


def _health(status: str) -> Health:
    return Health(ServiceState.from_environment(), watchdog_interval_seconds(), status, get_logger("service"))


def _jitter() -> float:
    return random.random()  # noqa: S311  # spreads reconnections in time, protects nothing
