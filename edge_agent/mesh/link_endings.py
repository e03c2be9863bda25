"""What is told of a link that is over: who ended it, or why none came about."""

from __future__ import annotations

import errno
import os
from typing import Final

from edge_agent.mesh.connection import NOT_ACCEPTED
from edge_agent.mesh.conversation import EndReason
from edge_agent.mesh.peer_link import CLOSED, PeerLink
from edge_agent.mesh.refusals import Refusals, Refuser
from operations.journal import get_logger

log = get_logger()

STOPPED: Final = "the mesh of this device stops"
SLEEPING: Final = "this device goes to sleep"
CONNECTED: Final = "it is connected already"
ANEW: Final = "the neighbour has connected anew"
FAULT: Final = "a fault in this device, which its journal describes"

_WITHOUT_HELLO: Final = (
    "it closes every connection without a hello; it does not accept this device's certificate, or knows that this "
    "device was called in, or has too many neighbours"
)
"""Whoever refuses does not say why."""
_CUT_OFF: Final = frozenset({CLOSED, "ConnectionResetError", *map(os.strerror, (errno.ECONNRESET, errno.EPIPE))})
"""A connection is reset instead of closed when our hello came too late to be read."""
_SILENT_MAX: Final = 256
_OWN_JUDGEMENTS: Final = tuple(reason.value for reason in EndReason)


class LinkEndings:
    """Writes the lines. Not responsible for what follows from an ending."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._silent: dict[bytes, None] = {}

    def came_up(self, link: PeerLink) -> None:
        """Hear that both sides have said hello."""
        self._silent.pop(link.device, None)
        log.info("neighbour_connected", device=link.device, address=link.address, dialled=link.dialled)

    def over(self, link: PeerLink, reason: str, *, refused: bool, has_another: bool) -> None:
        """Tell of a link that is over; `refused` when this device did not want it, `has_another` when there is another
        connection with the same neighbour.
        """
        if link.up_seconds is not None:
            fields = {"device": link.device, "address": link.address, "seconds": round(link.up_seconds)}
            log.info("neighbour_left", **fields, reason=reason)
        elif reason in (STOPPED, SLEEPING):
            return
        elif reason in (CONNECTED, ANEW) or self._is_spare(link, reason, has_another=has_another):
            log.debug("neighbour_connection_spare", device=link.device, address=link.address, reason=reason)
        else:
            is_cut_off = link.hello is None and reason in _CUT_OFF
            by = Refuser.IT if is_cut_off else _refuser(reason, refused=refused)
            reason = _WITHOUT_HELLO if is_cut_off else reason
            self._refusals.tell(link.address, reason, by=by, device=link.device, dialled=link.dialled)

    def _is_spare(self, link: PeerLink, reason: str, *, has_another: bool) -> bool:
        """Whether the far end has closed it because it keeps another one. That one may not have come here yet, so only
        the second time in a row that it is closed without a word means a refusal.
        """
        if link.hello is not None or reason not in _CUT_OFF:
            return False
        is_first = link.device not in self._silent
        if is_first and len(self._silent) >= _SILENT_MAX:
            self._silent.pop(next(iter(self._silent)))
        self._silent[link.device] = None
        return has_another or is_first


def _refuser(reason: str, *, refused: bool) -> Refuser:
    if refused or reason.startswith(_OWN_JUDGEMENTS):
        return Refuser.US
    return Refuser.IT if reason.startswith(NOT_ACCEPTED) else Refuser.NOBODY
