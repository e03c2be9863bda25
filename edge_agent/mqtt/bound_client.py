"""aiomqtt's client on a socket that was bound to the VPN's interface before it connected; MQTT 5 over TLS 1.3.

aiomqtt 2.5 applies its `socket_options` after paho has connected (`Client.__aenter__`): the first packets would already
have left by whatever route there was. So paho's own making of the socket is replaced; it is a private method, and its
absence is noticed at construction.
"""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.mqtt.parted_sockets import PartedSockets
from edge_agent.mqtt.vpn_guard import bound_socket
from edge_agent.tls import TlsMaterial, load_material

_SOCKET_FACTORY: Final = "_create_socket_connection"
_NO_MATCHING_SUBSCRIBERS: Final = 0x10  # MQTT 5, 3.4.2.1: a success, strictly speaking


class UnsupportedLibraryError(Exception):
    """The installed paho-mqtt or aiomqtt works differently from what the binding relies on."""


def broker_tls_context(ca_file: Path, certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.3 only, the broker proven by `ca_file`, this device by its certificate. Raises TlsMaterialError.

    The broker's certificate must name the address that is connected to. Its dates are not looked at: the broker is
    trusted with nothing (envelopes are sealed to the center, which signs receipts).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_material(context, TlsMaterial(ca_file, certificate_file, key_file))
    return context


class BoundClient(aiomqtt.Client):
    """One connection to the broker by one interface; `async with` connects. Make a new one for each connection.

    The session lives at the broker under `identifier` (clean_start is off). Raises UnsupportedLibraryError at
    construction, aiomqtt.MqttError from `async with` and from every call once the connection is gone. `abandon` ends it
    at once, without a word to the broker; to be called when the VPN guard refuses, before leaving `async with`.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        interface: str,
        source: str | None,
        identifier: str,
        tls_context: ssl.SSLContext,
        parted_sockets: PartedSockets,
        keepalive_seconds: int = 60,
        session_expiry_seconds: int = 0,
        connect_timeout_seconds: float = 20,
        bundles_in_flight_max: int = 20,
    ) -> None:
        _check_libraries()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = session_expiry_seconds
        super().__init__(
            address,
            port,
            identifier=identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            keepalive=keepalive_seconds,
            timeout=connect_timeout_seconds,
            tls_context=tls_context,
            max_inflight_messages=bundles_in_flight_max,
        )
        self._interface = interface
        self._source = source
        self._parted_sockets = parted_sockets
        self._duplicate: socket.socket | None = None
        self._abandoned = False
        self._handovers: dict[int, asyncio.Future[bool]] = {}
        self.session_present = False
        """Whether the broker still had this device's session; known once `async with` has connected."""
        self._client.connect_timeout = connect_timeout_seconds
        setattr(self._client, _SOCKET_FACTORY, self._connect_bound_socket)
        self.pending_calls_threshold = bundles_in_flight_max

    def _connect_bound_socket(self) -> socket.socket:
        """In the place of paho's method; runs on the executor's thread that connects."""
        if self._abandoned:  # while this thread waited for its turn
            raise ConnectionAbortedError("the connection was abandoned before it was made")
        made = bound_socket(self._interface, self._hostname, self._source)
        try:
            made.settimeout(self._client.connect_timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A second descriptor keeps the kernel's socket alive when paho closes its own: see PartedSockets.
            self._duplicate = made.dup()
            made.connect((self._hostname, self._port))
        except BaseException:
            made.close()
            raise
        return made

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        finally:
            # `async with` may have been cancelled meanwhile, but this thread could not be.
            if self._abandoned:
                with contextlib.suppress(RuntimeError):  # the event loop has ended: the process is about to
                    self._loop.call_soon_threadsafe(self._drop)

    async def _misc_loop(self) -> None:
        """In the place of aiomqtt's, which wakes up every second to see whether a ping is due."""
        interval_seconds = max(1.0, self._keepalive / 4)
        while self._client.loop_misc() == paho.MQTT_ERR_SUCCESS:  # noqa: ASYNC110  # paho tells of a due ping to nobody
            await asyncio.sleep(interval_seconds)  # the wait is for a time, not for an event

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.session_present = flags.session_present
        super()._on_connect(client, userdata, flags, reason_code, properties)

    async def hand_over(self, topic: str, payload: bytes, timeout_seconds: float) -> bool:
        """Publish with QoS 1 and return whether the broker took it for somebody: aiomqtt's own publish does not tell.

        A broker without a subscriber answers well and drops the message; that is no taking either.

        Raises aiomqtt.MqttError when the connection is gone or nothing is answered in time.
        """
        answer: asyncio.Future[bool] = self._loop.create_future()
        sent = self._client.publish(topic, payload, qos=1)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "the bundle could not be sent")
        self._handovers[sent.mid] = answer
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError:
            raise aiomqtt.MqttError("the broker does not answer") from None
        finally:
            self._handovers.pop(sent.mid, None)

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        answer = self._handovers.get(mid)
        if answer is None:
            super()._on_publish(client, userdata, mid, reason_code, properties)
        elif not answer.done():
            answer.set_result(not reason_code.is_failure and reason_code.value != _NO_MATCHING_SUBSCRIBERS)

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except BaseException:
            self.abandon()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the connection at once, in whatever state it is. Pending publishes are not woken: cancel them."""
        self._abandoned = True
        if not self._disconnected.done():
            self._disconnected.set_exception(aiomqtt.MqttError("the connection was abandoned"))
            self._disconnected.exception()  # looked at, so that asyncio does not report it as forgotten
        self._drop()

    def _drop(self) -> None:
        # paho has no public way to close a socket without sending; this one also takes it out of the event loop.
        self._client._sock_close()
        if self._misc_task is not None:
            self._misc_task.cancel()
        duplicate, self._duplicate = self._duplicate, None
        if duplicate is not None:
            self._parted_sockets.part(duplicate)


def _check_libraries() -> None:
    """Raises UnsupportedLibraryError unless paho makes its socket by the method that is replaced here."""
    makes_socket = getattr(paho.Client, "_create_socket", None)
    names_used = getattr(getattr(makes_socket, "__code__", None), "co_names", ())
    missing = [
        name
        for owner, name in (
            (paho.Client, _SOCKET_FACTORY),
            (paho.Client, "_sock_close"),
            (aiomqtt.Client, "_client_connect"),
            (aiomqtt.Client, "_misc_loop"),
        )
        if not callable(getattr(owner, name, None))
    ]
    if missing or _SOCKET_FACTORY not in names_used:
        raise UnsupportedLibraryError(
            f"this paho-mqtt or aiomqtt makes its sockets in another way ({', '.join(missing) or _SOCKET_FACTORY}), so "
            "the connection could not be bound to the VPN; install paho-mqtt 2.x and aiomqtt 2.5"
        )
