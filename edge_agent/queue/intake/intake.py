"""The one function in which every way of submitting ends: recognise, check the room, make durable, answer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from edge_agent.engine.effects import Accepted, Refused
from edge_agent.engine.ports import Acceptor
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, recognise
from operations.journal import get_logger
from sync_protocol.attachments import read_attachments
from sync_protocol.content import MEDIA_TYPE_ATTACHMENTS, Questionnaire

log = get_logger()


@dataclass(frozen=True)
class IntakeSettings:
    """Bounds of what is taken in."""

    state_directory: Path
    default_form: str
    questionnaire_bytes_max: int
    free_bytes_min: int


class Intake:
    """Takes questionnaires from the socket, the drop folder, the OpenRosa endpoint and the command line."""

    def __init__(self, settings: IntakeSettings, acceptor: Acceptor, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._clock = clock

    async def take(self, raws: Sequence[RawSubmission], occasion: str) -> Sequence[Accepted | Unacceptable]:
        """Accept all of them or none, durably.

        `occasion` tells one submission of the same bytes from another (a file's path, a request's own key): repeating
        a submission with the same occasion changes nothing. A questionnaire with an instance id of its own needs
        none.
        """
        full = self.without_room(sum(len(raw.body) for raw in raws))
        if full is not None:
            log.warning("submission_refused", problem=full.problem)
            return [full] * len(raws)
        keyed: list[tuple[bytes, Questionnaire]] = []
        for position, raw in enumerate(raws, start=1):
            new_instance_id = f"uuid:{uuid.uuid4()}"
            result = self._recognise(raw, new_instance_id)
            if isinstance(result, Unacceptable):
                log.warning("submission_refused", problem=result.problem)
                where = f"questionnaire {position} of {len(raws)}: " if len(raws) > 1 else ""
                return [replace(result, problem=where + result.problem)] * len(raws)
            brought = result.instance_id != new_instance_id
            keyed.append((_own_key(result) if brought else _key(result, f"{occasion}\0{position}"), result))
        answers = await self._acceptor.accept(keyed)
        return [
            Unacceptable(answer.problem, answer.remedy, answer.again, answer.full)
            if isinstance(answer, Refused)
            else answer
            for answer in answers
        ]

    def without_room(self, body_bytes: int) -> Unacceptable | None:
        """Return the refusal of so many bytes more, or None where there is room for them; raises OSError."""
        room = os.statvfs(self._settings.state_directory)
        if room.f_bavail * room.f_frsize >= self._settings.free_bytes_min + body_bytes:
            return None
        remedy = "connect the tablet so that its queue can drain, or remove other files from it; then submit again"
        return Unacceptable("the disk is nearly full", remedy, again=True, full=True)

    def _recognise(self, raw: RawSubmission, new_instance_id: str) -> Questionnaire | Unacceptable:
        return recognise(
            raw,
            default_form=self._settings.default_form,
            bytes_max=self._settings.questionnaire_bytes_max,
            now=self._clock(),
            new_instance_id=new_instance_id,
        )


def instance_key(form: str, instance_id: str) -> bytes:
    """Return the 32 bytes with which the keys of all submissions of one form and instance id begin."""
    return _digest(f"{form}\0{instance_id}")


def _own_key(questionnaire: Questionnaire) -> bytes:
    """Return what makes this submission the same as an earlier one, when it brought an instance id.

    Instance key, digest of the XML or JSON, and, when files came with that, digest of the whole body: so the queue can
    say whether other answers, or other files to the same answers, came under an instance id before.
    """
    beginning = instance_key(questionnaire.form, questionnaire.instance_id)
    whole = sha256(questionnaire.body).digest()
    if questionnaire.media_type != MEDIA_TYPE_ATTACHMENTS:
        return beginning + whole
    return beginning + sha256(read_attachments(questionnaire.body)[0]).digest() + whole


def _key(questionnaire: Questionnaire, occasion: str) -> bytes:
    """Return the same for a submission that brought none: its occasion and bytes decide."""
    return sha256(_digest(f"{questionnaire.form}\0\0{occasion}") + sha256(questionnaire.body).digest()).digest()


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogateescape")).digest()
