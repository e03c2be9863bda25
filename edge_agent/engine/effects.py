"""What the engine wants done once its transaction is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sync_protocol.mesh import Exchanged


@dataclass(frozen=True)
class Send:
    """Give this bundle to the link, and say with `Settled` under the same token what became of it."""

    link_key: str
    token: int
    data: bytes


@dataclass(frozen=True)
class Follow:
    """Ask the link for the receipts of `origins`, and the counted lists of `listed`, from now on; replaces what was
    asked before. Its own list a device is given unasked.
    """

    link_key: str
    origins: frozenset[bytes]
    listed: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Say:
    """Tell a neighbour's engine what this device knows, has, or wants (SPEC.md §9)."""

    link_key: str
    message: Exchanged


@dataclass(frozen=True)
class Declined:
    """There is no room for these envelopes (ids) of the bundle that has just arrived."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True)
class Accepted:
    """The questionnaire is durable as these links of the chain."""

    request: int
    epoch: int
    first_sequence: int
    last_sequence: int
    repeated: bool
    """True when it had been accepted before, under the same key."""


@dataclass(frozen=True)
class Refused:
    """The questionnaire was not accepted, and nothing of it is kept."""

    request: int
    problem: str
    remedy: str
    again: bool = False
    """The same questionnaire may be accepted later: the trouble is not its own."""
    full: bool = False
    """The trouble is that the disk has no room."""


@dataclass(frozen=True)
class Wake:
    """Let `TimePassed` happen at this time, or before; the newest Wake counts."""

    at: int


class Level(Enum):
    """How loudly a notice is told."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Notice:
    """Something an operator may want to know; `event` is what logs are filtered by."""

    event: str
    fields: Mapping[str, object] = field(default_factory=dict)
    level: Level = Level.INFO


Effect = Send | Follow | Say | Declined | Accepted | Refused | Wake | Notice
