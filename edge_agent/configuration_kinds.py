"""The kinds of values that only the edge's configuration has: the broker's address, the names of interfaces, a light,
where neighbours are, which web pages may submit, where the census web site is let in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from operations.configuration import Key, Kind, Unfit
from operations.configuration.kinds import check_address, check_string, check_strings, shown

INTERFACE_NAME_CHARACTERS_MAX: Final = 15
"""The kernel's IFNAMSIZ without its zero."""
STATIC_PEERS_MAX: Final = 32
"""Each is dialled for ever, and there are links to some two dozen neighbours at most."""
PORT_MAX: Final = 65535
ORIGINS_MAX: Final = 8
_LOOPBACK_ORIGIN: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[1-9][0-9]{0,4})?", re.ASCII)
_FILE_NAME_CHARACTERS_MAX: Final = 255
_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")


def _broker_address(key: Key, value: object) -> str:
    remedy = f"write the broker's address inside the VPN, such as  {key.line}"
    why_no_name = ": a name would be looked up outside the tunnel, where anybody can see and answer it"
    address = check_address(key, value, remedy=remedy, name_problem=why_no_name)
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise Unfit(f"{shown(value)} has a scope or stands for an IPv4 address", remedy)
    if address.is_unspecified or address.is_multicast or address.is_link_local or address == _BROADCAST:
        raise Unfit(f"{shown(value)} is not the address of one host that a route leads to", remedy)
    return str(address)


def _interface_patterns(key: Key, value: object) -> tuple[str, ...]:
    patterns = check_strings(value, what="names", example=key.line)
    for pattern in patterns:
        if _fits_everything(pattern):
            problem = f"{shown(pattern)} fits every interface: the broker would be spoken to outside the VPN"
            raise Unfit(problem, f"name the VPN's interfaces, such as  {key.line}")
        _check_interface_pattern(pattern)
    return tuple(patterns)


def _excluded_patterns(key: Key, value: object) -> tuple[str, ...]:
    if value == []:
        return ()
    patterns = check_strings(value, what="names", example=key.line)
    for pattern in patterns:
        if _fits_everything(pattern):
            problem = f"{shown(pattern)} fits every interface: the mesh would have none"
            raise Unfit(problem, 'to have no mesh, write  duty = "off"')
        _check_interface_pattern(pattern)
    return tuple(patterns)


def _fits_everything(pattern: str) -> bool:
    return not re.sub(r"\[.*?\]", "", pattern).strip("*?")


def _check_interface_pattern(pattern: str) -> None:
    if len(pattern.replace("*", "")) > INTERFACE_NAME_CHARACTERS_MAX or re.search(r"[\s/]", pattern):
        problem = f"{shown(pattern)} fits no interface: names have at most 15 characters, no spaces and no /"
        raise Unfit(problem, "`ip link` lists the names on this device")


@dataclass(frozen=True)
class PeerAddress:
    """Where a neighbour is: an IP literal, a link-local IPv6 one with its interface; `port` None is our own."""

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def peer_address(text: str) -> PeerAddress | None:
    """Return what an address, with a port or without, says; None when it is neither."""
    bracketed = re.fullmatch(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>\d{1,5}))?", text)
    plain = re.fullmatch(r"(?P<host>[\d.]+):(?P<port>\d{1,5})", text)
    found = bracketed or plain
    host, digits = (text, None) if found is None else (found["host"], found["port"])
    port = None if digits is None else int(digits)
    if port is not None and not 1 <= port <= PORT_MAX:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if bracketed is not None and address.version == 4:
        return None
    return PeerAddress(str(address), port)


def _peer_addresses(key: Key, value: object) -> tuple[str, ...]:
    if value == []:
        return ()
    texts = check_strings(value, what="addresses", example=key.line)
    peers = [_checked_peer(key, text) for text in texts]
    for position, peer in enumerate(peers):
        if peer in peers[:position]:
            raise Unfit(f"{shown(texts[position])} stands in the list twice", "keep one of them")
    if len(peers) > STATIC_PEERS_MAX:
        remedy = "keep those that are not found by themselves, or run a collection point that they all reach"
        raise Unfit(f"these are {len(peers)} neighbours, and at most {STATIC_PEERS_MAX} can be dialled", remedy)
    return tuple(map(str, peers))


def _checked_peer(key: Key, text: str) -> PeerAddress:
    remedy = f"write its address, with a port if it has another than this device, such as  {key.line}"
    peer = peer_address(text)
    if peer is None:
        if re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*(:\d+)?", text):
            raise Unfit(f"{shown(text)} is a host name, not an IP address: nobody answers for names there", remedy)
        raise Unfit(f"{shown(text)} is not an IP address with or without a port", remedy)
    address = ipaddress.ip_address(peer.host)
    if address.is_unspecified or address.is_multicast or address.is_loopback or address == _BROADCAST:
        raise Unfit(f"{shown(text)} is not the address of another device", remedy)
    if isinstance(address, ipaddress.IPv6Address):
        scope = address.scope_id
        if address.ipv4_mapped is not None:
            raise Unfit(f"{shown(text)} stands for an IPv4 address", f"write it as  {address.ipv4_mapped}")
        if address.is_link_local and scope is None:
            example = f"{peer.host}%eth0"
            raise Unfit(f"{shown(text)} holds on one link only", f"name the interface behind it, such as  {example}")
        if scope is not None and not address.is_link_local:
            raise Unfit(f"{shown(text)} names an interface that it does not need", "write it without % and the name")
        if scope is not None and (len(scope) > INTERFACE_NAME_CHARACTERS_MAX or re.search(r"[\s/]", scope)):
            raise Unfit(f"{shown(text)} names no interface", "`ip link` lists the names on this device")
    return peer


def _loopback_origins(key: Key, value: object) -> tuple[str, ...]:
    if value == []:
        return ()
    origins = check_strings(value, what="web addresses", example=key.line)
    for origin in origins:
        if _LOOPBACK_ORIGIN.fullmatch(origin) is None:
            problem = f"{shown(origin)} is not the beginning of a web address on this device"
            raise Unfit(problem, f"write scheme, host and port as the browser shows them, such as  {key.line}")
    if len(origins) > ORIGINS_MAX:
        raise Unfit(f"these are {len(origins)} web addresses, and at most {ORIGINS_MAX} can be", "keep those in use")
    return tuple(origins)


def _listen_address(key: Key, value: object) -> str:
    remedy = f"write an address of this machine, such as  {key.line}"
    address = check_address(key, value, remedy=remedy, name_problem=": it could lead to another machine")
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise Unfit(f"{shown(value)} has a scope or stands for an IPv4 address", remedy)
    if address.is_multicast or address == _BROADCAST:
        raise Unfit(f"{shown(value)} is not the address of one machine", remedy)
    return str(address)


def tls_problem(values: Mapping[str, Mapping[str, Any]]) -> Unfit | None:
    """Return what is wrong with how the web site is let in; None when nothing is, or a value is a mistake already."""
    online = values["online"]
    if not online.get("enabled") or not {"listen_address", "tls_certificate", "tls_key"} <= online.keys():
        return None
    certificate, key = online["tls_certificate"], online["tls_key"]
    if (certificate is None) is not (key is None):
        return Unfit("of online.tls_certificate and online.tls_key one is set", "set both, or none of them")
    if certificate is None and not ipaddress.ip_address(online["listen_address"]).is_loopback:
        problem = "answers and tokens would cross the network unencrypted: this is no loopback address"
        return Unfit(problem, 'set tls_certificate and tls_key, or  listen_address = "127.0.0.1"')
    return None


def _led_name(key: Key, value: object) -> str | None:
    name = check_string(key, value)
    if "/" in name or name in (".", "..") or len(name) > _FILE_NAME_CHARACTERS_MAX:
        remedy = f"write one of the names that `ls /sys/class/leds` lists, such as  {key.line}"
        raise Unfit(f"{shown(name)} is not the name of a light", remedy)
    return name or None


BROKER_ADDRESS: Final = Kind("an IP address in quotes", _broker_address)
INTERFACE_PATTERNS: Final = Kind("a list of interface names in quotes", _interface_patterns)
EXCLUDED_PATTERNS: Final = Kind("a list of interface names in quotes, or [] for none", _excluded_patterns)
LOOPBACK_ORIGINS: Final = Kind("a list of web addresses on this device in quotes, or [] for none", _loopback_origins)
PEER_ADDRESSES: Final = Kind("a list of addresses in quotes, or [] for none", _peer_addresses)
"""As texts in their usual form; `peer_address` takes them apart."""
LISTEN_ADDRESS: Final = Kind("an IP address in quotes", _listen_address)
LED_NAME: Final = Kind('the name of a light in quotes, or "" for none', _led_name)
