"""One request's body as it comes, bounded in time; and the answer to a request, whatever goes wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request

from edge_agent.queue.intake.openrosa.answers import Answer, Outcome
from edge_agent.queue.intake.openrosa.guard import pass_over
from edge_agent.queue.intake.openrosa.receiving import Refusal
from operations.journal import get_logger

log = get_logger()

PAUSE_SECONDS_MAX: Final = 30
"""Between two pieces of one request: programs on the same device need milliseconds."""
REQUEST_SECONDS_MAX: Final = 300


class RequestBody:
    """A request's body, in pieces as they come."""

    def __init__(self, request: Request, pause_seconds_max: float) -> None:
        self.headers = request.headers
        self._receive = request.receive
        self._pause_seconds_max = pause_seconds_max
        self._ended = self._gone = False

    def check_announced(self, bytes_max: int, *, unfit: Outcome) -> None:
        """Raise Refusal when the request announces a body of more bytes, or, as `unfit`, one that is compressed."""
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(unfit, "compressed requests are not taken")
        announced = self.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > bytes_max:
            raise _too_large(bytes_max)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces; raises Refusal when one does not come in time, or the client is gone."""
        while not self._ended:
            async with time_limit(self._pause_seconds_max):
                piece = await self._next()
            if self._gone:
                raise Refusal(Outcome.MALFORMED)  # which nobody reads
            yield piece

    async def whole(self, bytes_max: int) -> bytes:
        """Return all of it; raises Refusal when it is too large, or does not come."""
        received = bytearray()
        async for piece in self.chunks():
            received += piece
            if len(received) > bytes_max:
                raise _too_large(bytes_max)
        return bytes(received)

    async def pass_over(self) -> None:
        """Read what is left of a refused request."""
        if not self._ended:
            await pass_over(self._receive, self._pause_seconds_max)

    async def _next(self) -> bytes:
        message = await self._receive()
        self._gone = message["type"] != "http.request"
        self._ended = self._gone or not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


async def answer_to(
    request: Request, work: Callable[[RequestBody], Awaitable[Answer]], pause_seconds_max: float = PAUSE_SECONDS_MAX
) -> Answer:
    """Return the answer of `work`, which may raise Refusal; the rest of a refused request's body is read."""
    body = RequestBody(request, pause_seconds_max)
    answer = await _answer_of(work, body)
    if not answer.outcome.is_success and answer.outcome is not Outcome.TOO_SLOW:
        await body.pass_over()
    return answer


async def _answer_of(work: Callable[[RequestBody], Awaitable[Answer]], body: RequestBody) -> Answer:
    try:
        return await work(body)
    except Refusal as refusal:
        return refusal.answer
    except OSError as error:
        log.warning("openrosa_disk_failed", problem=str(error.strerror or error))
        return Answer(Outcome.DISK_FULL)
    except Exception as error:  # whatever is wrong here, the client keeps the questionnaire and sends it again
        log.exception("openrosa_failed", problem=type(error).__name__)
        return Answer(Outcome.NOT_NOW)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """End what takes too long, as a refusal."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Refusal(Outcome.TOO_SLOW) from None


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(Outcome.TOO_LARGE, f"a request has at most {bytes_max:,} bytes")
