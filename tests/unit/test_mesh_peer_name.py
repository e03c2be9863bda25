"""Who a certificate says is at the far end: exactly one device, named twice, or nobody."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from edge_agent.mesh.peer_tls import APPLICATION_PROTOCOL, NotADeviceError, device_of

NAME, OTHER = "0123456789abcdef" * 2, "f" * 32


@dataclass
class Handshake:
    """What an SSLObject tells of a handshake that went well."""

    common_names: tuple[str, ...] = (NAME,)
    alternatives: tuple[tuple[str, str], ...] = (("DNS", NAME),)
    protocol: str | None = APPLICATION_PROTOCOL
    certificate: dict[str, Any] | None = field(init=False)

    def __post_init__(self) -> None:
        subject = tuple((("commonName", one),) for one in self.common_names)
        self.certificate = {"subject": subject, "subjectAltName": self.alternatives}

    def selected_alpn_protocol(self) -> str | None:
        return self.protocol

    def getpeercert(self) -> dict[str, Any] | None:
        return self.certificate


def name_in(handshake: Handshake) -> bytes:
    return device_of(cast(ssl.SSLObject, handshake))


def test_a_device_is_named_as_common_name_and_as_the_only_alternative() -> None:
    assert name_in(Handshake()) == bytes.fromhex(NAME)


@pytest.mark.parametrize(
    "handshake",
    [
        Handshake(alternatives=()),
        Handshake(alternatives=(("DNS", OTHER),)),
        Handshake(alternatives=(("DNS", NAME), ("DNS", OTHER))),
        Handshake(alternatives=(("email", NAME),)),
        Handshake(common_names=()),
        Handshake(common_names=(NAME, OTHER)),
        Handshake(common_names=(NAME.upper(),), alternatives=(("DNS", NAME.upper()),)),
        Handshake(common_names=(NAME[:-1],), alternatives=(("DNS", NAME[:-1]),)),
        Handshake(common_names=(NAME + "\n",), alternatives=(("DNS", NAME + "\n"),)),
        Handshake(common_names=("center-consumer",), alternatives=(("DNS", "center-consumer"),)),
        Handshake(protocol=None),
        Handshake(protocol="http/1.1"),
    ],
)
def test_anything_else_is_no_device(handshake: Handshake) -> None:
    with pytest.raises(NotADeviceError):
        name_in(handshake)


def test_no_certificate_is_no_device() -> None:
    handshake = Handshake()
    handshake.certificate = None
    with pytest.raises(NotADeviceError):
        name_in(handshake)
