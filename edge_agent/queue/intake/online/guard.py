"""Who may use the endpoint of the census web site: whoever has a token that is in force. Looked at before any route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_agent.queue.intake.online.answering import response_to
from edge_agent.queue.intake.online.tokens import TokenFile
from edge_agent.queue.intake.openrosa.answers import Answer, Outcome
from edge_agent.queue.intake.openrosa.guard import marking, pass_over
from edge_agent.repetition import Repetitions
from operations.journal import get_logger
from sync_protocol.limits import KIBIBYTE

log = get_logger()

_SCHEME: Final = "bearer "
_STRANGER_BYTES_MAX: Final = 64 * KIBIBYTE
_STRANGER_SECONDS_MAX: Final = 1
"""What is read of a request without a token: enough that a client of ours, which sends all before it listens, hears."""


class TokenGuard:
    """Stands before an ASGI application, and puts the OpenRosa headers on all that leaves."""

    def __init__(
        self,
        application: ASGIApp,
        tokens: TokenFile,
        *,
        headers: Callable[[], Mapping[str, str]],
        monotonic: Callable[[], float],
    ) -> None:
        self._application = application
        self._tokens = tokens
        self._headers = headers
        self._monotonic = monotonic
        self._repetitions = Repetitions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        send_marked = marking(send, lambda: {**self._headers(), "Vary": "Accept-Language"})
        refusal = self._refusal(headers)
        if refusal is None:
            await self._application(scope, receive, send_marked)
            return
        await pass_over(receive, _STRANGER_SECONDS_MAX, _STRANGER_BYTES_MAX)
        response = response_to(scope["path"], Answer(refusal), headers)
        response.headers["Connection"] = "close"  # what is left of the request is not read
        if refusal is Outcome.WRONG_TOKEN:
            response.headers["WWW-Authenticate"] = 'Bearer realm="census"'
        await response(scope, receive, send_marked)

    def _refusal(self, headers: Headers) -> Outcome | None:
        given = headers.getlist("authorization")
        if len(given) != 1 or given[0][: len(_SCHEME)].lower() != _SCHEME:
            self._tell("it has no token")
            return Outcome.WRONG_TOKEN
        try:
            if self._tokens.allows(given[0][len(_SCHEME) :].strip()):
                return None
        except OSError as error:
            self._tell(f"the file of tokens cannot be read: {error.strerror or error}")
            return Outcome.NOT_NOW
        self._tell("its token is not in force")
        return Outcome.WRONG_TOKEN

    def _tell(self, reason: str) -> None:
        if self._repetitions.worth_telling(reason, self._monotonic()) is not None:
            log.warning("online_turned_away", reason=reason)
