"""The routes of the endpoint of the census web site: /submission as OpenRosa has it, and /questionnaires for JSON."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge_agent.queue.intake.online.answering import QUESTIONNAIRES, response_to
from edge_agent.queue.intake.online.guard import TokenGuard
from edge_agent.queue.intake.online.json_questionnaire import JSON_BYTES_MAX, read_questionnaire
from edge_agent.queue.intake.online.tokens import TokenFile
from edge_agent.queue.intake.openrosa.answers import Answer, Outcome, openrosa_headers
from edge_agent.queue.intake.openrosa.desk import SubmissionDesk
from edge_agent.queue.intake.openrosa.receiving import Refusal
from edge_agent.queue.intake.openrosa.requests import REQUEST_SECONDS_MAX, RequestBody, answer_to, time_limit
from edge_agent.queue.intake.openrosa.submission import SubmissionAddress
from sync_protocol.content import MEDIA_TYPE_JSON


def application(
    desk: SubmissionDesk,
    submission: SubmissionAddress,
    tokens: TokenFile,
    *,
    questionnaire_bytes_max: int,
    clock: Callable[[], int],
) -> ASGIApp:
    """Return the ASGI application; `clock` in microseconds."""
    questionnaires = _Questionnaires(desk, min(questionnaire_bytes_max, JSON_BYTES_MAX))
    starlette = Starlette(
        routes=[*submission.routes(), Route(QUESTIONNAIRES, questionnaires.submit, methods=["POST"])],
        exception_handlers={404: _not_found, 405: _not_allowed},
    )
    starlette.router.redirect_slashes = False
    return TokenGuard(
        starlette,
        tokens,
        headers=lambda: openrosa_headers(clock(), questionnaire_bytes_max),
        monotonic=time.monotonic,
    )


class _Questionnaires:
    def __init__(self, desk: SubmissionDesk, bytes_max: int) -> None:
        self._desk = desk
        self._bytes_max = bytes_max

    async def submit(self, request: Request) -> Response:
        return response_to(QUESTIONNAIRES, await answer_to(request, self._take), request.headers)

    async def _take(self, body: RequestBody) -> Answer:
        media_type = body.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != MEDIA_TYPE_JSON:
            raise Refusal(Outcome.NOT_JSON)
        body.check_announced(self._bytes_max, unfit=Outcome.NOT_JSON)
        async with time_limit(REQUEST_SECONDS_MAX):
            received = await body.whole(self._bytes_max)
        raw, is_edit = read_questionnaire(received)
        return await self._desk.submit_whole(raw, is_edit=is_edit)


async def _not_found(request: Request, _error: Exception) -> Response:
    return response_to(request.url.path, Answer(Outcome.NOT_FOUND), request.headers)


async def _not_allowed(request: Request, _error: Exception) -> Response:
    return response_to(request.url.path, Answer(Outcome.NOT_ALLOWED), request.headers)
