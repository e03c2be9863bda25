"""The endpoint's routes: submission, form list, forms, manifests and media, all below `/key/<key>`."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from edge_agent.queue.intake.openrosa.guard import Guard, answered
from edge_agent.queue.intake.openrosa.requests import PAUSE_SECONDS_MAX
from edge_agent.queue.intake.openrosa.submission import SubmissionAddress
from sync_protocol.limits import KIBIBYTE

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
    submission = SubmissionAddress(
        desk, settings.spool_folder, settings.questionnaire_bytes_max, settings.pause_seconds_max
    )
    routes = _Routes(shelf, renew)
    below_key = Router(
        [
            *submission.routes(),
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
    def __init__(self, shelf: FormShelf, renew: Callable[[], Awaitable[None]]) -> None:
        self._shelf = shelf
        self._renew = renew

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
