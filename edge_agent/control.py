"""What operators ask the running daemon, and its answers.

Requests on the control socket: `status`; `queue-list` (`state`, `rows`); `queue-show` (`sequence`, `epoch`); `media`;
`media-visit` (`folder`, `leaves`); `medium-certify` (`number`, `holder`, `expires_at`); `medium-record` (`identity`);
`notice` (`text`); `counted-list`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from edge_agent.engine.media import Enrolled
from edge_agent.engine.medium_enrolment import CertifiedIdentity, EnrolmentRefused, MediumWords
from edge_agent.engine.receipts import SIGNED_TIME
from edge_agent.engine.store import StoreFault
from edge_agent.own_list import ListUnreadable, list_document
from edge_agent.queue import inspection
from edge_agent.queue.inspection import Query
from edge_agent.queue.intake.local_protocol import Answer, LocalProtocolError, Request, member, refusal
from sync_protocol.counted_list import CountedList

STATUS = "status"
QUEUE_LIST = "queue-list"
QUEUE_SHOW = "queue-show"
MEDIA = "media"
MEDIA_VISIT = "media-visit"
MEDIUM_CERTIFY = "medium-certify"
MEDIUM_RECORD = "medium-record"
NOTICE = "notice"
COUNTED_LIST = "counted-list"

_REQUESTS: Final = (
    *(STATUS, QUEUE_LIST, QUEUE_SHOW, NOTICE, COUNTED_LIST),
    *(MEDIA, MEDIA_VISIT, MEDIUM_CERTIFY, MEDIUM_RECORD),
)

SEQUENCE_MAX: Final = (1 << 63) - 1
"""SQLite's integers end here."""


Report = Callable[[], dict[str, Any]]
"""Made on the event loop, run on the store's thread."""


class Reader(Protocol):
    """Runs something on the store's thread."""

    async def __call__(self, work: Callable[[], Answer]) -> Answer: ...


class MediaDesk(Protocol):
    """What can be asked of the USB watch. The coroutines raise StoreFault."""

    def visits(self) -> list[dict[str, Any]]:
        """Return what came of the media, as plain values."""
        ...

    def visit_folder(self, folder: Path, *, leaves: bool) -> str:
        """Begin to visit a folder, and name the visit."""
        ...

    async def certify(self, words: MediumWords) -> CertifiedIdentity | EnrolmentRefused:
        """Certify a new medium; nothing is recorded."""
        ...

    async def record(self, identity: bytes) -> Enrolled | EnrolmentRefused:
        """Take into the queue what now lies on a medium."""
        ...


def connection_query(connection: sqlite3.Connection) -> Query:
    """Return a query on a plain connection, as the daemon has it."""

    def query(sql: str, parameters: Mapping[str, object]) -> Iterable[Mapping[str, Any]]:
        cursor = connection.execute(sql, parameters)
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor]

    return query


class ControlHandler:
    """Answers the control socket's requests from the daemon's own connection."""

    def __init__(
        self,
        read: Reader,
        query: Query,
        status: Callable[[], Report],
        media: MediaDesk,
        *,
        check_notice: Callable[[str], dict[str, Any]],
        own_list: Callable[[], CountedList | None],
    ) -> None:
        """`status` looks at what the event loop knows; the report that it returns looks at the queue, as do
        `check_notice` and `own_list`, which raises ListUnreadable.
        """
        self._read = read
        self._query = query
        self._status = status
        self._media = media
        self._check_notice = check_notice
        self._own_list = own_list

    async def __call__(self, request: Request, _body: bytes) -> Answer:
        match request.get("request"):
            case "media":
                return {"ok": True, "visits": self._media.visits()}
            case "media-visit":
                folder = Path(member(request, "folder", str, ""))
                if not folder.is_absolute():
                    raise LocalProtocolError("the folder of a visit is an absolute path")
                leaves = member(request, "leaves", bool, False)
                return {"ok": True, "visit": self._media.visit_folder(folder, leaves=leaves)}
            case "medium-certify" | "medium-record" as name:
                try:
                    return await (self._certify(request) if name == MEDIUM_CERTIFY else self._record(request))
                except StoreFault as error:
                    return refusal(f"the queue cannot be used: {error}", "run edge-agent doctor", again=True)
        work = self._work_for(request)
        try:
            return await self._read(work)
        except sqlite3.Error as error:
            return refusal(f"the queue cannot be read: {error}", "run edge-agent doctor", again=True)

    async def _certify(self, request: Request) -> Answer:
        words = MediumWords(
            member(request, "number", str, ""),
            member(request, "holder", str, ""),
            _number(request, "expires_at", 0, SEQUENCE_MAX),
        )
        certified = await self._media.certify(words)
        if isinstance(certified, EnrolmentRefused):
            return refusal(certified.problem, certified.remedy)
        return {"ok": True, "medium": certified.medium.hex(), "identity": certified.data.hex()}

    async def _record(self, request: Request) -> Answer:
        try:
            identity = bytes.fromhex(member(request, "identity", str, ""))
        except ValueError:
            raise LocalProtocolError("the identity of a medium is hexadecimal") from None
        recorded = await self._media.record(identity)
        if isinstance(recorded, EnrolmentRefused):
            return refusal(recorded.problem, recorded.remedy)
        return {"ok": True, "medium": recorded.medium.hex(), "number": recorded.number}

    def _counted_list(self) -> Answer:
        try:
            opened = self._own_list()
        except ListUnreadable as error:
            return refusal(str(error), error.remedy)
        signed_time = inspection.remembered(self._query).get(SIGNED_TIME)
        shown = None if opened is None else list_document(opened)
        return {"ok": True, "list": shown, "newest_signed_time": signed_time}

    def _work_for(self, request: Request) -> Callable[[], Answer]:
        """Return what answers the request; raises LocalProtocolError for one that cannot be answered."""
        match request.get("request"):
            case "status":
                report = self._status()
                return lambda: {"ok": True, **report()}
            case "queue-list":
                state = member(request, "state", str, None)
                if state is not None and state not in inspection.STATES:
                    raise LocalProtocolError(f"state is none of {', '.join(inspection.STATES)}")
                rows_max = _number(request, "rows", inspection.ROWS_MAX, inspection.ROWS_MAX)
                return lambda: {
                    "ok": True,
                    "rows": inspection.list_envelopes(self._query, state=state, rows_max=rows_max),
                }
            case "queue-show":
                sequence = _number(request, "sequence", None, SEQUENCE_MAX)
                epoch = None if request.get("epoch") is None else _number(request, "epoch", None, SEQUENCE_MAX)
                if sequence is None:
                    raise LocalProtocolError("a request for one envelope names its sequence")
                return lambda: {"ok": True, "rows": inspection.show_envelope(self._query, sequence, epoch)}
            case "counted-list":
                return self._counted_list
            case "notice":
                text = member(request, "text", str, "")
                return lambda: {"ok": True, **self._check_notice(text)}
            case other:
                known = ", ".join(_REQUESTS)
                raise LocalProtocolError(f"{other!r} is none of {known}")


def _number(request: Request, name: str, default: Any, maximum: int) -> Any:
    """Return a member that counts from 1; what SQLite has no room for is refused here."""
    value = member(request, name, int, default)
    if value is not default and not 1 <= value <= maximum:
        raise LocalProtocolError(f"{name} of the request is from 1 to {maximum}")
    return value
