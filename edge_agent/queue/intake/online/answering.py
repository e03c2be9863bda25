"""How the endpoint of the census web site answers: JSON where JSON is handed in, OpenRosa's XML everywhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response

from edge_agent.queue.intake.openrosa.answers import Answer, language_of, sentence
from edge_agent.queue.intake.openrosa.guard import answered
from operations.documents import iso_time
from sync_protocol.content import MEDIA_TYPE_JSON
from sync_protocol.notice import Notice

QUESTIONNAIRES: Final = "/questionnaires"


def response_to(path: str, answer: Answer, headers: Headers) -> Response:
    """Return the response to a request for this path, in the language that the client asked for."""
    if path != QUESTIONNAIRES:
        return answered(answer, headers)
    language = language_of(headers.get("accept-language", ""))
    document = {
        "outcome": answer.outcome.name.lower(),
        "message": sentence(answer.outcome, language),
        "detail": answer.detail,
        "notice": None if answer.notice is None else _notice(answer.notice),
    }
    return Response(
        msgspec.json.encode(document) + b"\n",
        status_code=answer.outcome.status,
        headers={"Content-Type": MEDIA_TYPE_JSON, "Content-Language": language},
    )


def _notice(notice: Notice) -> dict[str, Any]:
    return {
        "number": notice.number,
        "token": notice.token,
        "form": notice.form,
        "accepted_at": iso_time(datetime.fromtimestamp(notice.accepted_at / 1_000_000, UTC)),
    }
