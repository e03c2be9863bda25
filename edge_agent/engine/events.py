"""What can happen to the engine. Times are microseconds since 1970 UTC by the device's clock, which is not trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_agent.engine.links import Link
from sync_protocol.content import Questionnaire
from sync_protocol.mesh import Exchanged


@dataclass(frozen=True)
class ChainPosition:
    """How far the device's own chain reaches: sequence 0 and zeros for the id when the epoch is empty."""

    epoch: int
    sequence: int
    last_id: bytes


@dataclass(frozen=True)
class Started:
    """The process has opened its store; `mirror` is what the file beside it says of the chain, `statements` the
    provisioning's.
    """

    mirror: ChainPosition | None
    statements: tuple[bytes, ...]


@dataclass(frozen=True)
class Submission:
    """One questionnaire to accept. `key` (32 bytes) makes repeating it harmless; `request` names it in the answer."""

    request: int
    key: bytes
    questionnaire: Questionnaire


@dataclass(frozen=True)
class Submitted:
    """Form programs hand over questionnaires; all of them become durable together."""

    submissions: tuple[Submission, ...]


@dataclass(frozen=True)
class LinkUp:
    """A link is ready to carry bundles."""

    link: Link


@dataclass(frozen=True)
class LinkDown:
    """A link is gone; whatever was not settled on it may or may not have arrived."""

    link_key: str


@dataclass(frozen=True)
class BundleArrived:
    """Bytes came in over a link; nothing is known of them yet."""

    link_key: str
    data: bytes


@dataclass(frozen=True)
class Settled:
    """The far end answered a bundle: it took it over (PUBACK, handover, verified on the medium), or it did not.

    `declined` are the ids of envelopes in it that the far end had no room for.
    """

    link_key: str
    token: int
    taken: bool
    declined: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Said:
    """A neighbour's engine says what it knows, has, or wants (SPEC.md §9)."""

    link_key: str
    message: Exchanged


@dataclass(frozen=True)
class StatementLearnt:
    """A statement that came by no link: this device has signed it, or found it on a medium that says who it is."""

    data: bytes


@dataclass(frozen=True)
class RecipientKeyMade:
    """This device has a recipient key (1,216 bytes), to which lists for it shall be sealed."""

    public_key: bytes


@dataclass(frozen=True)
class TimePassed:
    """The time asked for by a `Wake` has come, or something may have become due."""


Event = (
    Started
    | Submitted
    | LinkUp
    | LinkDown
    | BundleArrived
    | Settled
    | Said
    | StatementLearnt
    | RecipientKeyMade
    | TimePassed
)

TOUCHES_NO_LINK: Final = (Submitted, RecipientKeyMade)
"""What only seals: when it cannot be recorded, links go on. A full queue needs them to drain."""
