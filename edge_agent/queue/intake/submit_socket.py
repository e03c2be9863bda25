"""The local socket for form programs: request `submit`, with the questionnaire as body.

Members, all optional: `media_type`, `form`, `form_version`, `instance_id`, and `key`, by which a program that got no
answer can safely ask again. The answer's `epoch`, `first_sequence` and `last_sequence` name the envelopes; `repeated`
says that they were there before.
"""

from __future__ import annotations

import uuid

from edge_agent.queue.intake.intake import Intake
from edge_agent.queue.intake.local_protocol import Answer, LocalProtocolError, Request, member, refusal
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable

SUBMIT = "submit"


class SubmitHandler:
    """Answers `submit` requests."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, request: Request, body: bytes) -> Answer:
        if request.get("request") != SUBMIT:
            raise LocalProtocolError('this socket answers "submit" only')
        raw = RawSubmission(
            body,
            media_type=member(request, "media_type", str, ""),
            form=member(request, "form", str, ""),
            form_version=member(request, "form_version", str, ""),
            instance_id=member(request, "instance_id", str, ""),
        )
        occasion = member(request, "key", str, "") or uuid.uuid4().hex
        (answer,) = await self._intake.take([raw], occasion)
        if isinstance(answer, Unacceptable):
            return refusal(answer.problem, answer.remedy, again=answer.again)
        return {
            "ok": True,
            "epoch": answer.epoch,
            "first_sequence": answer.first_sequence,
            "last_sequence": answer.last_sequence,
            "repeated": answer.repeated,
        }
