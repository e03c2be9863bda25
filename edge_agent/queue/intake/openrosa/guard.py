"""Who may use the endpoint at all: programs of this device that know its key, and web pages that were allowed to.

Looked at before a request reaches any route:

- the Host header is a loopback name. A page whose name is made to lead to 127.0.0.1 (DNS rebinding) is not one of ours;
- an Origin header, which browsers send, is the endpoint's own or one that the configuration lists. Enketo's server asks
  by itself and sends none; a page that submits directly (ODK Web Forms) is listed. Listed pages, and no others, are
  given the answers to read (CORS), never with cookies;
- the key in the path is the device's. Requests with another are answered 401 as ODK Central does.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent.queue.intake.openrosa.answers import XML, Answer, Outcome, language_of, response_xml
from edge_agent.repetition import Repetitions
from operations.journal import get_logger
from sync_protocol.limits import KIBIBYTE

log = get_logger()

_LOOPBACK: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_METHODS: Final = "GET, HEAD, POST"
_ASKED_HEADERS: Final = "Content-Type, X-OpenRosa-Version, Accept-Language"
_PASSED_OVER_BYTES_MAX: Final = 256 * 1024 * KIBIBYTE
"""Of a refused request: some seconds on the same device, and a person is told why it was refused."""
_PASS_OVER_SECONDS_MAX: Final = 5
_SHOWN_HEADERS: Final = "X-OpenRosa-Version, X-OpenRosa-Accept-Content-Length, Date, Content-Language, ETag"


class Guard:
    """Stands before an ASGI application, and puts the OpenRosa headers on all that leaves."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        key: str,
        origins: frozenset[str],
        headers: Callable[[], Mapping[str, str]],
        monotonic: Callable[[], float],
    ) -> None:
        self._application = application
        self._beginning = f"/key/{key}/".encode()
        self._origins = origins
        self._headers = headers
        self._monotonic = monotonic
        self._repetitions = Repetitions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        shown = {"Vary": "Origin, Accept-Language"}
        if origin is not None and origin in self._origins:
            shown |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _SHOWN_HEADERS}
        send_marked = marking(send, lambda: {**self._headers(), **shown})
        refusal = self._refusal(scope, headers, origin)
        if refusal is not None:
            self._tell(refusal)
            await pass_over(receive, _PASS_OVER_SECONDS_MAX)
            await answered(Answer(refusal), headers)(scope, receive, send_marked)
        elif scope["method"] == "OPTIONS":
            await _preflight()(scope, receive, send_marked)
        else:
            await self._application(scope, receive, send_marked)

    def _refusal(self, scope: Scope, headers: Headers, origin: str | None) -> Outcome | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _LOOPBACK.fullmatch(hosts[0]) is None:
            return Outcome.WRONG_HOST
        if origin is not None and origin not in self._origins and origin.lower() != f"http://{hosts[0].lower()}":
            return Outcome.FOREIGN_PAGE
        path = scope["path"].encode(errors="surrogateescape")
        if not path.startswith(b"/key/"):
            return Outcome.NOT_FOUND
        begun = path[: len(self._beginning)]
        return None if hmac.compare_digest(begun, self._beginning) else Outcome.WRONG_KEY

    def _tell(self, refusal: Outcome) -> None:
        reason = _REASONS.get(refusal)
        if reason is not None and self._repetitions.worth_telling(reason, self._monotonic()) is not None:
            log.warning("openrosa_turned_away", reason=reason)


_REASONS: Final = {
    Outcome.WRONG_HOST: "the request is for another host than this device",
    Outcome.FOREIGN_PAGE: "a web page that intake.openrosa_origins does not list",
    Outcome.WRONG_KEY: "the key in the address is not this device's",
}


def marking(send: Send, headers: Callable[[], Mapping[str, str]]) -> Send:
    """Return `send` with these headers on every response, and those that keep a browser from making anything of it."""

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            marked = MutableHeaders(scope=message)
            marked.update(headers())
            marked["X-Content-Type-Options"] = "nosniff"
            marked["Content-Security-Policy"] = "default-src 'none'; sandbox"
        await send(message)

    return send_marked


async def pass_over(receive: Receive, seconds_max: float, bytes_max: int = _PASSED_OVER_BYTES_MAX) -> None:
    """Read what a refused client sends, as OpenRosa asks for: many send all before they listen, and a connection that
    is ended before takes the answer from them.
    """
    bytes_left = bytes_max
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds_max):
            while bytes_left > 0:
                message = await receive()
                bytes_left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def answered(answer: Answer, headers: Headers) -> Response:
    """Return the response that says so, in the language that the client asked for."""
    language = language_of(headers.get("accept-language", ""))
    return Response(
        response_xml(answer, language),
        status_code=answer.outcome.status,
        headers={"Content-Type": XML, "Content-Language": language},
    )


def _preflight() -> Response:
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _ASKED_HEADERS,
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)
