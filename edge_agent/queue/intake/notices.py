"""Gives those who answered on the census web site notices of having been counted (SPEC.md §10)."""

from __future__ import annotations

import re
from typing import Final

from edge_agent.engine.identity import DeviceIdentity
from sync_protocol.errors import ProtocolError
from sync_protocol.notice import Notice, check_form, sign_notice

_RANDOM_UUID: Final = re.compile(
    "uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


class NoticeDesk:
    """Signs with the key of this device, which is certified as an online device."""

    def __init__(self, identity: DeviceIdentity) -> None:
        self._identity = identity

    def problem_with(self, form: str, instance_id: str) -> str | None:
        """Return why no notice could be given of such a questionnaire; None when one can."""
        if _RANDOM_UUID.fullmatch(instance_id) is None:
            # The notice's number follows from it: who could guess the one could guess the other.
            return 'its instance id is not "uuid:" and a random UUID (version 4); give every questionnaire a new one'
        try:
            check_form(form)
        except ProtocolError as error:
            return error.detail
        return None

    def notice(self, form: str, instance_id: str, accepted_at: int) -> Notice:
        """Return the notice of an accepted questionnaire; the same for the same, whenever it is asked for."""
        identity = self._identity
        return sign_notice(
            identity.signer, device=identity.device, form=form, instance_id=instance_id, accepted_at=accepted_at
        )
