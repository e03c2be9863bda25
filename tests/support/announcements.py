"""Packets of multicast DNS as a neighbour, or somebody who means harm, would send them."""

import ipaddress
from collections.abc import Sequence

# Offered at the package's top, but not listed in its __all__:
from zeroconf import (  # type: ignore[attr-defined]
    DNSAddress,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSService,
    DNSText,
)

TYPE = "_census-sync._tcp.local."
MDNS_IPV4, MDNS_IPV6, MDNS_PORT = "224.0.0.251", "ff02::fb", 5353
_PTR, _TXT, _SRV, _A, _AAAA = 12, 16, 33, 1, 28
_IN, _QUESTION, _ANSWER = 1, 0x0000, 0x8400


def announcement(
    name: str,
    addresses: Sequence[str],
    port: int = 7000,
    *,
    ttl_seconds: int = 600,
    text: bytes = b"\x03v=1",
    with_service: bool = True,
    also: Sequence[str] = (),
) -> bytes:
    """One packet: the instance, where it is, and further instances in `also` with nothing about them."""
    out = DNSOutgoing(_ANSWER)
    instance, server = f"{name}.{TYPE}", "abcdefghijklmnop.local."
    for one in (instance, *(f"{other}.{TYPE}" for other in also)):
        out.add_answer_at_time(DNSPointer(TYPE, _PTR, _IN, ttl_seconds, one), 0)
    if with_service:
        out.add_answer_at_time(DNSService(instance, _SRV, _IN, ttl_seconds, 0, 0, port, server), 0)
    out.add_answer_at_time(DNSText(instance, _TXT, _IN, ttl_seconds, text), 0)
    for address in map(ipaddress.ip_address, addresses):
        kind = _A if address.version == 4 else _AAAA
        out.add_answer_at_time(DNSAddress(server, kind, _IN, ttl_seconds, address.packed), 0)
    packets: list[bytes] = out.packets()
    assert len(packets) == 1
    return packets[0]


def question(name: str = TYPE, *, unicast: bool = False) -> bytes:
    """Asks who offers the service."""
    out = DNSOutgoing(_QUESTION)
    asked = DNSQuestion(name, _PTR, _IN)
    asked.unicast = unicast
    out.add_question(asked)
    packets: list[bytes] = out.packets()
    return packets[0]
