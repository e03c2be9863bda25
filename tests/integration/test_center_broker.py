"""The broker configuration against a real mosquitto: who may connect, and what a device may do once it is in."""

from __future__ import annotations

import getpass
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from central_broker.broker_configuration import PACKET_BYTES_MAX, write_broker_files
from central_broker.configuration import BrokerConfiguration
from central_broker.tls_authority import (
    CONSUMER_NAME,
    PUBLISHER_NAME,
    TlsAuthority,
    TlsIssuer,
    create_tls_authority,
    issue_client_certificate,
    key_to_pem,
    make_revocation_list,
    new_tls_key,
    to_pem,
)
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.topics import (
    FORMS_PREFIX,
    STATEMENTS,
    consumer_subscription,
    forms_topic,
    lists_topic,
    receipts_topic,
    up_topic,
)
from tests.support.center_broker import TryingClient, strict_context
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.processes import free_port

pytestmark = pytest.mark.skipif(why_no_mosquitto() is not None, reason=str(why_no_mosquitto()))

ONE, OTHER, REVOKED = (bytes([number]) * 16 for number in (1, 2, 3))


@dataclass
class Stage:
    """A running broker with clients certified for it; `clients` are closed with it."""

    folder: Path
    tls: TlsAuthority
    configuration: BrokerConfiguration
    clients: list[TryingClient]
    serials: dict[str, int]
    broker: Mosquitto | None = None

    def context(self, common_name: str, issuer: TlsIssuer | None = None) -> ssl.SSLContext:
        certificate, key = self.folder / f"{common_name}.crt", self.folder / f"{common_name}.key"
        if not certificate.exists():
            private = new_tls_key()
            center = common_name in (CONSUMER_NAME, PUBLISHER_NAME)
            by = issuer or (self.tls.center if center else self.tls.issuing)
            leaf = issue_client_certificate(by, private.public_key(), common_name)
            self.serials[common_name] = leaf.serial_number
            certificate.write_bytes(to_pem(leaf, by.certificate))
            key.write_bytes(key_to_pem(private))
        return strict_context(self.folder / "root.pem", certificate, key)

    def client(self, common_name: str, client_id: str = "") -> TryingClient:
        client = TryingClient(self.context(common_name), client_id or common_name)
        self.clients.append(client)
        return client

    def device(self, device: bytes, client_id: str = "") -> TryingClient:
        client = self.client(device.hex(), client_id or device.hex())
        assert client.connect(self.configuration.port) == "Success"
        return client

    def center(self, common_name: str, client_id: str) -> TryingClient:
        client = self.client(common_name, client_id)
        assert client.connect(self.configuration.center_port) == "Success"
        return client

    def write(self, *revoked: str) -> Path:
        lists = make_revocation_list(self.tls.issuing, [self.serials[name] for name in revoked], number=1)
        return write_broker_files(
            self.folder / "broker",
            self.configuration,
            issuer=self.tls.issuing,
            root=to_pem(self.tls.root.certificate),
            center_authority=to_pem(self.tls.center.certificate),
            revocation_list=to_pem(lists),
        ).configuration


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    port, center_port = free_port(), free_port()
    configuration = BrokerConfiguration(
        names=("127.0.0.1", "localhost"),
        listen_address="127.0.0.1",
        port=port,
        center_address="127.0.0.1",
        center_port=center_port,
        in_flight_max=200,
        queue_messages_max=5_000,
        queue_bytes_max=1 << 28,
        user=getpass.getuser(),
    )
    stage = Stage(tmp_path, create_tls_authority(), configuration, [], {})
    (tmp_path / "root.pem").write_bytes(to_pem(stage.tls.root.certificate))
    stage.context(REVOKED.hex())
    # The center's listener is the last that mosquitto opens.
    with Mosquitto(tmp_path, configuration=stage.write(REVOKED.hex()), port=center_port) as broker:
        stage.broker = broker
        yield stage
        for client in stage.clients:
            client.close()


def test_a_questionnaire_goes_up_and_a_receipt_comes_down_under_strict_certificate_checks(stage: Stage) -> None:
    consumer, publisher = stage.center(CONSUMER_NAME, "consumer-1"), stage.center(PUBLISHER_NAME, "receipts-1")
    device = stage.device(ONE)
    assert consumer.subscribe(consumer_subscription("group")) == "Granted QoS 1"
    assert device.subscribe(receipts_topic(ONE)) == "Granted QoS 1"
    assert device.subscribe(STATEMENTS) == "Granted QoS 1"
    assert device.publish(up_topic(ONE), b"bundle") == "Success"
    assert consumer.next_message() == (up_topic(ONE), b"bundle")
    assert publisher.publish(receipts_topic(ONE), b"receipt", retain=True) == "Success"
    assert device.next_message() == (receipts_topic(ONE), b"receipt")
    assert publisher.publish(STATEMENTS, b"statement") == "Success"
    assert device.next_message() == (STATEMENTS, b"statement")
    assert device.subscribe(FORMS_PREFIX + "#") == "Granted QoS 1"
    assert publisher.publish(forms_topic(b"f" * 16), b"form", retain=True) == "Success"
    assert device.next_message() == (forms_topic(b"f" * 16), b"form")
    assert device.subscribe(lists_topic(OTHER)) == "Granted QoS 1", "it may carry for the other"
    assert publisher.publish(lists_topic(OTHER), b"sealed", retain=True) == "Success"
    assert device.next_message() == (lists_topic(OTHER), b"sealed")


def test_a_device_may_not_write_to_anothers_topic_nor_say_what_the_center_says(stage: Stage) -> None:
    consumer = stage.center(CONSUMER_NAME, "consumer-1")
    consumer.subscribe(consumer_subscription("group"))
    device, other = stage.device(ONE), stage.device(OTHER)
    other.subscribe("census/1/receipts/#")
    other.subscribe(STATEMENTS)
    said = (receipts_topic(OTHER), STATEMENTS, forms_topic(b"f" * 16), lists_topic(OTHER))
    for topic in (up_topic(OTHER), *said, up_topic(ONE) + "/deeper", "anything"):
        assert device.publish(topic, b"false", retain=True) == "Not authorized"
    device.publish(up_topic(ONE), b"own")
    assert consumer.next_message() == (up_topic(ONE), b"own")
    stage.center(PUBLISHER_NAME, "receipts-1").publish(STATEMENTS, b"genuine")
    assert other.next_message() == (STATEMENTS, b"genuine")  # and nothing false before it
    assert consumer.messages.empty()


def test_a_device_does_not_see_what_devices_send(stage: Stage) -> None:
    consumer, publisher = stage.center(CONSUMER_NAME, "consumer-1"), stage.center(PUBLISHER_NAME, "receipts-1")
    consumer.subscribe(consumer_subscription("group"))
    curious = stage.device(OTHER)
    for topic in ("census/1/up/+", "#", "census/1/up/" + ONE.hex(), STATEMENTS):
        curious.subscribe(topic)  # 2.0.11 checks reading when a message is delivered, not here
    stage.device(ONE).publish(up_topic(ONE), b"secret")
    assert consumer.next_message() == (up_topic(ONE), b"secret")
    publisher.publish(STATEMENTS, b"last")
    seen = curious.next_message()
    while seen == (STATEMENTS, b"last") and not curious.messages.empty():
        seen = curious.next_message()
    assert seen == (STATEMENTS, b"last")


def test_the_centers_own_clients_may_not_do_each_others_work(stage: Stage) -> None:
    consumer, publisher = stage.center(CONSUMER_NAME, "consumer-1"), stage.center(PUBLISHER_NAME, "receipts-1")
    assert consumer.publish(receipts_topic(ONE), b"false") == "Not authorized"
    assert consumer.publish(STATEMENTS, b"false") == "Not authorized"
    assert consumer.publish(up_topic(ONE), b"false") == "Not authorized"
    assert publisher.publish(up_topic(ONE), b"false") == "Not authorized"
    assert publisher.publish("census/1/up/" + PUBLISHER_NAME, b"false") == "Not authorized"


def test_a_client_identifier_cannot_be_stolen(stage: Stage) -> None:
    stage.center(CONSUMER_NAME, "consumer-1").subscribe(consumer_subscription("group"))
    victim = stage.device(ONE)
    thief = stage.device(OTHER, client_id=ONE.hex())
    assert thief.publish(up_topic(OTHER), b"still") == "Success"
    assert victim.publish(up_topic(ONE), b"still here") == "Success"


def test_two_consumers_with_one_certificate_work_side_by_side(stage: Stage) -> None:
    first, second = stage.center(CONSUMER_NAME, "consumer-1"), stage.center(CONSUMER_NAME, "consumer-2")
    assert first.subscribe(consumer_subscription("group")) == "Granted QoS 1"
    assert second.subscribe(consumer_subscription("group")) == "Granted QoS 1"


def _refusal(client: TryingClient, port: int) -> str:
    """How the connection ended; TLS 1.3 tells a client of its refused certificate only after its own handshake."""
    try:
        return client.connect(port)
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__name__


def test_certificates_that_are_missing_revoked_or_of_the_other_listener_are_refused(stage: Stage) -> None:
    port, center_port = stage.configuration.port, stage.configuration.center_port
    stage.device(ONE)  # that one is let in
    foreign = create_tls_authority()
    root = stage.folder / "root.pem"
    stage.context("f" * 32, foreign.issuing)
    stage.context(OTHER.hex())
    refused = [
        (TryingClient(strict_context(root, None, None)), port),
        (TryingClient(strict_context(root, None, None)), center_port),
        (stage.client(REVOKED.hex()), port),
        (stage.client("f" * 32), port),
        (stage.client(CONSUMER_NAME), port),
        (stage.client(OTHER.hex()), center_port),
    ]
    for client, to in refused:
        stage.clients.append(client)
        assert _refusal(client, to) != "Success"


def test_tls_1_2_is_refused(stage: Stage) -> None:
    for port, name in ((stage.configuration.port, ONE.hex()), (stage.configuration.center_port, CONSUMER_NAME)):
        context = stage.context(name)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            TryingClient(context).connect(port)


def test_a_bundle_at_the_limit_passes_and_a_larger_one_ends_the_connection(stage: Stage) -> None:
    consumer = stage.center(CONSUMER_NAME, "consumer-1")
    consumer.subscribe(consumer_subscription("group"))
    device = stage.device(ONE)
    assert device.publish(up_topic(ONE), bytes(BUNDLE_BYTES_MAX)) == "Success"
    assert len(consumer.next_message()[1]) == BUNDLE_BYTES_MAX
    assert device.publish(up_topic(ONE), bytes(PACKET_BYTES_MAX)) != "Success"


def test_a_device_revoked_later_is_refused_after_a_reload(stage: Stage) -> None:
    assert stage.broker is not None
    port = stage.configuration.port
    stage.device(ONE).close()
    stage.write(ONE.hex())
    stage.broker.process.signal(signal.SIGHUP)
    for _ in range(100):  # the signal is handled when the broker comes to it
        if _refusal(stage.client(ONE.hex()), port) != "Success":
            break
    else:
        pytest.fail("the revoked device is still let in")
    assert _refusal(stage.client(OTHER.hex()), port) == "Success"


def test_a_stranger_in_a_group_of_a_guessed_name_draws_nothing_off(stage: Stage) -> None:
    consumer = stage.center(CONSUMER_NAME, "consumer-1")
    consumer.subscribe(consumer_subscription("center-7f3a"))  # as `init` draws it
    stage.device(OTHER).subscribe(consumer_subscription("center"))  # 2.0.11 grants any group to anyone
    device = stage.device(ONE)
    for number in range(6):
        device.publish(up_topic(ONE), bytes([number]))
    assert [consumer.next_message()[1] for _ in range(6)] == [bytes([number]) for number in range(6)]
