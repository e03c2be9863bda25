"""The endpoint's routes: submission, form list, forms, manifests and media, all below `/key/<key>`."""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from edge_agent.queue.intake.openrosa.answers import XML, Answer, Outcome, openrosa_headers
from edge_agent.queue.intake.openrosa.desk import SubmissionDesk
from edge_agent.queue.intake.openrosa.form_documents import form_list, manifest
from edge_agent.queue.intake.openrosa.forms import Form, FormShelf, current_versions
from edge_agent.queue.intake.openrosa.guard import Guard, answered, pass_over
from edge_agent.queue.intake.openrosa.receiving import ENVELOPE_BYTES_MAX, Refusal, boundary_of, receive
from operations.journal import get_logger
from sync_protocol.limits import KIBIBYTE

log = get_logger()

PAUSE_SECONDS_MAX: Final = 30
"""Between two pieces of one request: programs on the same device need milliseconds."""
REQUEST_SECONDS_MAX: Final = 300
_PIECE_BYTES: Final = 64 * KIBIBYTE


@dataclass(frozen=True)
class ApplicationSettings:
    """What the routes go by; sizes in bytes."""

    spool_folder: Path
    questionnaire_bytes_max: int
    origins: frozenset[str]
    pause_seconds_max: float = PAUSE_SECONDS_MAX


def application(
    desk: SubmissionDesk,
    shelf: FormShelf,
    *,
    key: str,
    settings: ApplicationSettings,
    clock: Callable[[], int],
    renew: Callable[[], Awaitable[None]],
) -> ASGIApp:
    """Return the ASGI application; `clock` in microseconds. `renew` sees to it that the shelf has what it should."""
    routes = _Routes(desk, shelf, settings, renew)
    below_key = Router(
        [
            Route("/submission", routes.may_submit, methods=["GET", "HEAD"]),
            Route("/submission", routes.submit, methods=["POST"]),
            Route("/formList", routes.form_list),
            Route("/forms/{form}/form.xml", routes.xform),
            Route("/forms/{form}/manifest", routes.manifest),
            Route("/forms/{form}/media/{name}", routes.media),
        ],
        redirect_slashes=False,
    )
    starlette = Starlette(
        routes=[Mount("/key/{key}", below_key)], exception_handlers={404: _not_found, 405: _not_allowed}
    )
    return Guard(
        starlette,
        key=key,
        origins=settings.origins,
        headers=lambda: openrosa_headers(clock(), settings.questionnaire_bytes_max),
        monotonic=time.monotonic,
    )


class _Routes:
    def __init__(
        self,
        desk: SubmissionDesk,
        shelf: FormShelf,
        settings: ApplicationSettings,
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self._renew = renew
        self._desk = desk
        self._shelf = shelf
        self._settings = settings
        self._request_bytes_max = settings.questionnaire_bytes_max + ENVELOPE_BYTES_MAX

    async def may_submit(self, _request: Request) -> Response:
        """ODK Collect asks before it submits, and wants exactly this status."""
        return Response(status_code=204)

    async def submit(self, request: Request) -> Response:
        body = _Body(request, self._settings.pause_seconds_max)
        answer = await self._answer(request, body)
        if not answer.outcome.is_success and answer.outcome is not Outcome.TOO_SLOW:
            await body.pass_over()
        return answered(answer, request.headers)

    async def _answer(self, request: Request, body: _Body) -> Answer:
        try:
            return await self._submit(request, body)
        except Refusal as refusal:
            return refusal.answer
        except OSError as error:
            log.warning("openrosa_disk_failed", problem=str(error.strerror or error))
            return Answer(Outcome.DISK_FULL)
        except Exception as error:  # whatever is wrong here, the client keeps the questionnaire and sends it again
            log.exception("openrosa_failed", problem=type(error).__name__)
            return Answer(Outcome.NOT_NOW)

    async def _submit(self, request: Request, body: _Body) -> Answer:
        boundary = boundary_of(request.headers.get("content-type", ""))
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(Outcome.NOT_MULTIPART, "compressed requests are not taken")
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > self._request_bytes_max:
            raise Refusal(Outcome.TOO_LARGE, f"a request has at most {self._request_bytes_max:,} bytes")
        async with _time_limit(REQUEST_SECONDS_MAX):
            post = await receive(body.chunks(), boundary, self._settings.spool_folder, self._request_bytes_max)
        try:
            return await self._desk.submit(post)
        finally:
            post.close()

    async def form_list(self, request: Request) -> Response:
        await self._renew()
        forms = list(self._shelf.forms())
        if "listAllVersions" not in request.query_params:
            forms = current_versions(forms)
        wanted = request.query_params.get("formID")
        if wanted is not None:
            forms = [form for form in forms if form.form == wanted]
        return Response(form_list(forms, _base(request)), headers={"Content-Type": XML})

    async def xform(self, request: Request) -> Response:
        form = self._form(request)
        if form is None:
            return _nothing(request.headers)
        return _unless_known(request, form.md5) or Response(
            self._shelf.xform(form.key), headers={"Content-Type": XML, "ETag": f'"{form.md5}"'}
        )

    async def manifest(self, request: Request) -> Response:
        form = self._form(request)
        if form is None:
            return _nothing(request.headers)
        return Response(manifest(form, _base(request)), headers={"Content-Type": XML})

    async def media(self, request: Request) -> Response:
        form, name = self._form(request), request.path_params["name"]
        found = None if form is None else next((each for each in form.media if each.name == name), None)
        if form is None or found is None:
            return _nothing(request.headers)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Content-Type": media_type, "ETag": f'"{found.md5}"'}
        known = _unless_known(request, found.md5)
        if known is not None:
            return known
        return StreamingResponse(_pieces(self._shelf.open_media(form.key, name)), headers=headers)

    def _form(self, request: Request) -> Form | None:
        key = request.path_params["form"]
        return next((form for form in self._shelf.forms() if form.key == key), None)


class _Body:
    """A request's body, in pieces as they come."""

    def __init__(self, request: Request, pause_seconds_max: float) -> None:
        self._receive = request.receive
        self._pause_seconds_max = pause_seconds_max
        self._ended = self._gone = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces; raises Refusal when one does not come in time, or the client is gone."""
        while not self._ended:
            async with _time_limit(self._pause_seconds_max):
                piece = await self._next()
            if self._gone:
                raise Refusal(Outcome.MALFORMED)  # which nobody reads
            yield piece

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


@asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    """End what takes too long, as a refusal."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Refusal(Outcome.TOO_SLOW) from None


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _base(request: Request) -> str:
    """Return the address by which the client came here; the guard has looked at the host."""
    return f"http://{request.headers['host']}/key/{request.path_params['key']}"


def _unless_known(request: Request, digest: str) -> Response | None:
    asked = request.headers.get("if-none-match", "")
    known = {each.strip().removeprefix("W/").strip('"') for each in asked.split(",")}
    return Response(status_code=304, headers={"ETag": f'"{digest}"'}) if digest in known else None


def _nothing(headers: Headers) -> Response:
    return answered(Answer(Outcome.NOT_FOUND), headers)


async def _not_found(request: Request, _error: Exception) -> Response:
    return _nothing(request.headers)


async def _not_allowed(request: Request, _error: Exception) -> Response:
    return answered(Answer(Outcome.NOT_ALLOWED), request.headers)
