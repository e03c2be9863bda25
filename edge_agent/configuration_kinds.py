"""The kinds of values that only the edge's configuration has: the broker's address, the VPN's interfaces, a light."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from operations.configuration import Key, Kind, Unfit
from operations.configuration.kinds import check_address, check_string, check_strings, shown

INTERFACE_NAME_CHARACTERS_MAX: Final = 15
"""The kernel's IFNAMSIZ without its zero."""
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
        if not re.sub(r"\[.*?\]", "", pattern).strip("*?"):
            problem = f"{shown(pattern)} fits every interface: the broker would be spoken to outside the VPN"
            raise Unfit(problem, f"name the VPN's interfaces, such as  {key.line}")
        if len(pattern.replace("*", "")) > INTERFACE_NAME_CHARACTERS_MAX or re.search(r"[\s/]", pattern):
            problem = f"{shown(pattern)} fits no interface: names have at most 15 characters, no spaces and no /"
            raise Unfit(problem, "`ip link` lists the names on this device")
    return tuple(patterns)


def _led_name(key: Key, value: object) -> str | None:
    name = check_string(key, value)
    if "/" in name or name in (".", "..") or len(name) > _FILE_NAME_CHARACTERS_MAX:
        remedy = f"write one of the names that `ls /sys/class/leds` lists, such as  {key.line}"
        raise Unfit(f"{shown(name)} is not the name of a light", remedy)
    return name or None


BROKER_ADDRESS: Final = Kind("an IP address in quotes", _broker_address)
INTERFACE_PATTERNS: Final = Kind("a list of interface names in quotes", _interface_patterns)
LED_NAME: Final = Kind('the name of a light in quotes, or "" for none', _led_name)
