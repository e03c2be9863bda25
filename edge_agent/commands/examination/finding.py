"""What a check of `edge-agent doctor` knows before it looks, and what it says afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from edge_agent.configuration import Configuration, ConfigurationError, load_configuration, parse_configuration
from edge_agent.configuration_check import check_document

_PLACEHOLDER_ADDRESS: Final = "192.0.2.1"
"""Reserved for documentation (RFC 5737): stands where the broker's address is missing, and is never spoken to."""


class Verdict(Enum):
    """How much a finding matters, in rising order."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What one check found; the remedy is empty where there is nothing to do."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Subject:
    """The device under examination. `status` is the running daemon's, else the queue's own; None if neither tells."""

    configuration: Configuration
    broker_known: bool
    status: dict[str, Any] | None
    now: int
    """Microseconds since 1970 by the device's clock."""

    @property
    def running(self) -> bool:
        """Whether a daemon answers."""
        return self.status is not None and bool(self.status["running"])


def read_configuration(path: Path) -> tuple[Configuration, bool, Finding]:
    """Return what can be used of the file, whether it says where the broker is, and the finding on it."""
    try:
        configuration = load_configuration(path)
    except ConfigurationError as error:
        remedy = "correct these lines; edge-agent sample-configuration shows every key. The rest is checked as if they "
        finding = Finding("configuration", Verdict.PROBLEM, str(error), remedy + "had their defaults")
        return *_usable(path), finding
    return configuration, True, Finding("configuration", Verdict.OK, f"{path} has no mistakes")


def _usable(path: Path) -> tuple[Configuration, bool]:
    """Return the configuration with the default in the place of each mistake."""
    try:
        values, mistakes = check_document(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        values, mistakes = check_document("")
    known = "address" in values["broker"]
    values["broker"].setdefault("address", _PLACEHOLDER_ADDRESS)
    for mistake in mistakes:
        section, _, name = (mistake.key or "").partition(".")
        if (section, name) != ("broker", "address"):
            values.get(section, {}).pop(name, None)
    try:
        return parse_configuration(_as_toml(values), path), known
    except ConfigurationError:  # what is left still contradicts itself
        address = {"broker": {"address": values["broker"]["address"]}}
        return parse_configuration(_as_toml(address), path), known


def _as_toml(values: dict[str, dict[str, Any]]) -> str:
    """Numbers, texts and lists of texts are written in TOML as in JSON."""
    lines = []
    for section, content in values.items():
        lines.append(f"[{section}]")
        for name, value in content.items():
            plain = "" if value is None else str(value) if isinstance(value, Path) else value
            lines.append(f"{name} = {json.dumps(plain, ensure_ascii=False)}")
    return "\n".join(lines)
