"""The address /submission: HEAD and POST as OpenRosa has them, wherever an endpoint mounts it."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.queue.intake.openrosa.answers import Answer, Outcome
from edge_agent.queue.intake.openrosa.desk import SubmissionDesk
from edge_agent.queue.intake.openrosa.guard import answered
from edge_agent.queue.intake.openrosa.receiving import ENVELOPE_BYTES_MAX, boundary_of, receive
from edge_agent.queue.intake.openrosa.requests import (
    PAUSE_SECONDS_MAX,
    REQUEST_SECONDS_MAX,
    RequestBody,
    answer_to,
    time_limit,
)


class SubmissionAddress:
    """Receives multipart submissions into a spool folder, and brings them to the desk; sizes in bytes."""

    def __init__(
        self,
        desk: SubmissionDesk,
        spool_folder: Path,
        questionnaire_bytes_max: int,
        pause_seconds_max: float = PAUSE_SECONDS_MAX,
    ) -> None:
        self._desk = desk
        self._spool_folder = spool_folder
        self._request_bytes_max = questionnaire_bytes_max + ENVELOPE_BYTES_MAX
        self._pause_seconds_max = pause_seconds_max

    def routes(self) -> list[Route]:
        """Return what answers at /submission."""
        return [
            Route("/submission", self._may_submit, methods=["GET", "HEAD"]),
            Route("/submission", self._submit, methods=["POST"]),
        ]

    async def _may_submit(self, _request: Request) -> Response:
        """ODK Collect asks before it submits, and wants exactly this status."""
        return Response(status_code=204)

    async def _submit(self, request: Request) -> Response:
        answer = await answer_to(request, self._take, self._pause_seconds_max)
        return answered(answer, request.headers)

    async def _take(self, body: RequestBody) -> Answer:
        boundary = boundary_of(body.headers.get("content-type", ""))
        body.check_announced(self._request_bytes_max, unfit=Outcome.NOT_MULTIPART)
        async with time_limit(REQUEST_SECONDS_MAX):
            post = await receive(body.chunks(), boundary, self._spool_folder, self._request_bytes_max)
        try:
            return await self._desk.submit(post)
        finally:
            post.close()
