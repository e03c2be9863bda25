"""A neighbour that a test plays by hand: what it says to a device, and what the device answers."""

from __future__ import annotations

from edge_agent.engine.effects import Say
from edge_agent.engine.events import Said
from edge_agent.engine.links import Link, LinkShape
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.mesh import Digests, Inventory, Offer, Offered, Verdict, Verdicts
from tests.support.device import Device


def link_to(far: bytes, *, key: str = "by hand", reaches_center: bool = True) -> Link:
    """A link to a neighbour of this name."""
    return Link(key, LinkShape.DUPLEX, far, reaches_center, 2, BUNDLE_BYTES_MAX)


def said(device: Device, link: Link, message: Digests | Inventory | Offer | Verdicts) -> list[Say]:
    """What a device says when it is told this on a link."""
    return [effect for effect in device.step(Said(link.key, message)) if isinstance(effect, Say)]


def verdict_on(device: Device, link: Link, *ids: bytes) -> tuple[Verdict, ...]:
    """What a device answers when this link offers it these."""
    (answer,) = said(device, link, Offer(1, tuple(Offered(one, 3_000, 0) for one in ids)))
    assert isinstance(answer.message, Verdicts)
    return answer.message.verdicts
