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
from sync_protocol.content import Questionnaire

log = get_logger()


@dataclass(frozen=True)
class IntakeSettings:
    """Bounds of what is taken in."""

    state_directory: Path
    default_form: str
    questionnaire_bytes_max: int
    free_bytes_min: int


class Intake:
    """Takes questionnaires from the socket, the drop folder and the command line."""

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
        full = self._check_room(sum(len(raw.body) for raw in raws))
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
            keyed.append((_key(result, "" if brought else f"{occasion}\0{position}"), result))
        answers = await self._acceptor.accept(keyed)
        return [
            Unacceptable(answer.problem, answer.remedy, answer.again) if isinstance(answer, Refused) else answer
            for answer in answers
        ]

    def _check_room(self, body_bytes: int) -> Unacceptable | None:
        room = os.statvfs(self._settings.state_directory)
        if room.f_bavail * room.f_frsize >= self._settings.free_bytes_min + body_bytes:
            return None
        remedy = "connect the tablet so that its queue can drain, or remove other files from it; then submit again"
        return Unacceptable("the disk is nearly full", remedy, again=True)

    def _recognise(self, raw: RawSubmission, new_instance_id: str) -> Questionnaire | Unacceptable:
        return recognise(
            raw,
            default_form=self._settings.default_form,
            bytes_max=self._settings.questionnaire_bytes_max,
            now=self._clock(),
            new_instance_id=new_instance_id,
        )


def _key(questionnaire: Questionnaire, occasion: str) -> bytes:
    """Return what makes this submission the same as an earlier one: its own instance id and bytes, or, when it
    brought none, its occasion and bytes.
    """
    instance_id = "" if occasion else questionnaire.instance_id
    said = f"{questionnaire.form}\0{instance_id}\0{occasion}"
    return sha256(said.encode(errors="surrogateescape") + b"\0" + sha256(questionnaire.body).digest()).digest()
