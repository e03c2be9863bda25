"""What sets the shapes of links apart: the one table of it. Sessions ask it, and nothing else asks for a shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.engine.links import LinkShape
from sync_protocol.way import Leg


@dataclass(frozen=True)
class Policy:
    """What sets the shapes apart."""

    asks_for_receipts: bool
    """The far end is asked for the receipts of certain origins; otherwise it gives what it has."""
    leaves_statements: bool
    """Statements, and others' heads as they come, are for whoever is there; bundles vouch for what is in them."""
    compares: bool
    """The far end says what it knows and wants, so that nothing else is sent; otherwise it is given everything."""
    taking_is_keeping: bool
    """What was taken is on the far end's disk, so there is little reason to say it again to the same one."""
    registers_media: bool
    """The far end keeps the register of media, and hears of those that collection points have enrolled."""
    tablets_take_over: bool
    """Others' envelopes that come in are taken over by everybody; otherwise by collection points only."""
    leg: Leg
    """What an envelope that comes in has come by."""


POLICIES: Mapping[LinkShape, Policy] = {
    # The center knows its own statements, and a broker's word is no custody.
    LinkShape.MAILBOX: Policy(
        asks_for_receipts=True,
        leaves_statements=False,
        compares=False,
        taking_is_keeping=False,
        registers_media=True,
        tablets_take_over=True,
        leg=Leg.NONE,
    ),
    # Whoever finds the medium may be from another district, so it carries what everybody should know.
    # A medium passes through many tablets, and a collection point is where it goes.
    LinkShape.DEAD_DROP: Policy(
        asks_for_receipts=False,
        leaves_statements=True,
        compares=False,
        taking_is_keeping=True,
        registers_media=False,
        tablets_take_over=False,
        leg=Leg.USB,
    ),
    # The other end runs a session of its own: what it has for us comes as bundles that arrive.
    LinkShape.DUPLEX: Policy(
        asks_for_receipts=False,
        leaves_statements=True,
        compares=True,
        taking_is_keeping=True,
        registers_media=False,
        tablets_take_over=True,
        leg=Leg.MESH,
    ),
}
