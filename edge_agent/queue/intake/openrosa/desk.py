"""What becomes of a submission: taken, known already, kept until the rest of it comes, or refused. Knows no HTTP.

Submissions of one instance id are handled one after the other, so that what was asked of the queue still holds when
the questionnaire is handed to it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Final
from weakref import WeakValueDictionary

from edge_agent.engine.effects import Accepted
from edge_agent.engine.ports import QueueDesk
from edge_agent.engine.store import StoreFault, StoreFull
from edge_agent.queue.intake.intake import Intake, instance_key
from edge_agent.queue.intake.notices import NoticeDesk
from edge_agent.queue.intake.openrosa.answers import Answer, Outcome
from edge_agent.queue.intake.openrosa.batches import Batch, BatchFolder, Joined, body_of, file_digest
from edge_agent.queue.intake.openrosa.receiving import MEMORY_BYTES_MAX, ReceivedPost, Refusal
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, XFormIdentity, read_xform
from operations.journal import get_logger
from sync_protocol.content import MEDIA_TYPE_ATTACHMENTS, MEDIA_TYPE_XML
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import ATTACHMENTS_MAX, NAME_CHARACTERS_MAX

log = get_logger()

UNFINISHED_SECONDS: Final = 24 * 60 * 60
"""After so long without a further request a questionnaire is taken as far as it came: a photograph may be missing, but
its answers must not lie on one tablet for ever.
"""

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class SubmissionDesk:
    """Takes submissions in."""

    def __init__(
        self,
        intake: Intake,
        queue: QueueDesk,
        batches: BatchFolder,
        *,
        bytes_max: int,
        clock: Callable[[], int],
        new_occasion: Callable[[], str],
        notices: NoticeDesk | None = None,
    ) -> None:
        """`bytes_max` of a questionnaire with everything that belongs to it. With `notices`, what is accepted is
        answered with one.
        """
        self._intake = intake
        self._queue = queue
        self._batches = batches
        self._bytes_max = bytes_max
        self._clock = clock
        self._new_occasion = new_occasion
        self._notices = notices
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._large = asyncio.Lock()

    async def submit(self, post: ReceivedPost) -> Answer:
        """Return when the answer is true: nothing is said to be safe that is not on disk."""
        return await self._answered(self._submit(post))

    async def submit_whole(self, raw: RawSubmission, *, is_edit: bool) -> Answer:
        """The same for a questionnaire in one piece, which names its form and its instance id."""
        return await self._answered(self._submit_whole(raw, is_edit=is_edit))

    async def complete_what_is_left(self) -> None:
        """Take batches whose last request came before a death, and those whose client has given up; raises OSError."""
        for batch in await asyncio.to_thread(self._batches.batches):
            async with self._turn(batch.instance), self._room_for(self._batches.data_bytes(batch)):
                complete = self._batches.is_complete(batch)
                # Whether the clock was set back or forward since: nothing is lost by taking it early, or late.
                age_seconds = abs(self._clock() / 1_000_000 - self._batches.newest_at(batch))
                if not complete and age_seconds < UNFINISHED_SECONDS:
                    continue
                answer = await self._answered(self._take_batch(batch))
            if not answer.outcome.is_success:
                log.warning("openrosa_batch_waits", problem=answer.detail or answer.outcome.name.lower())
            elif not complete:
                log.warning("openrosa_unfinished_taken")

    async def _answered(self, work: Awaitable[Answer]) -> Answer:
        try:
            return await work
        except Refusal as refusal:
            return refusal.answer
        except StoreFault as fault:
            return Answer(Outcome.DISK_FULL if isinstance(fault, StoreFull) else Outcome.NOT_NOW)
        except ProtocolError as error:
            return Answer(Outcome.TOO_LARGE if error.fault is Fault.OVERSIZED else Outcome.UNACCEPTABLE, error.detail)
        except OSError as error:
            log.warning("openrosa_disk_failed", problem=str(error.strerror or error))
            return Answer(Outcome.DISK_FULL if error.errno in _NO_ROOM else Outcome.NOT_NOW)

    async def _submit(self, post: ReceivedPost) -> Answer:
        async with self._room_for(post.data_bytes):
            xml = post.xml()
            identity, digest = _identity_of(xml), sha256(xml).digest()
            self._check_notice(identity.form, identity.instance_id)
            if not identity.instance_id:
                return await self._submit_nameless(post, xml)
        batch = Batch(instance_key(identity.form, identity.instance_id), digest)
        async with self._turn(batch.instance), self._room_for(post.data_bytes + self._batches.data_bytes(batch)):
            answer = await self._submit_named(post, batch, is_edit=bool(identity.deprecated_id))
            return await self._with_notice(answer, identity.form, identity.instance_id)

    async def _submit_whole(self, raw: RawSubmission, *, is_edit: bool) -> Answer:
        self._check_notice(raw.form, raw.instance_id)
        batch = Batch(instance_key(raw.form, raw.instance_id), sha256(raw.body).digest())
        async with self._turn(batch.instance), self._room_for(len(raw.body)):
            known = await self._known(batch.instance)
            if self._conflicts(batch, known) and not is_edit:
                return _conflict()
            answer = Answer(Outcome.REPEATED) if _is_among(batch, known) else await self._hand_over(raw, "")
            return await self._with_notice(answer, raw.form, raw.instance_id)

    def _check_notice(self, form: str, instance_id: str) -> None:
        """Raise Refusal when a notice is due, and none could be given."""
        problem = None if self._notices is None else self._notices.problem_with(form, instance_id)
        if problem is not None:
            log.warning("submission_refused", problem=problem)
            raise Refusal(Outcome.UNACCEPTABLE, problem)

    async def _with_notice(self, answer: Answer, form: str, instance_id: str) -> Answer:
        """Of whatever came under one instance id the first date counts, so that a repetition gets the same notice."""
        if self._notices is None or answer.outcome not in (Outcome.TAKEN, Outcome.REPEATED):
            return answer
        instance = instance_key(form, instance_id)
        accepted_at = await self._queue.ask(lambda transaction: transaction.submitted_at(instance))
        return replace(answer, notice=self._notices.notice(form, instance_id, accepted_at or self._clock()))

    async def _known(self, instance: bytes) -> Sequence[bytes]:
        return await self._queue.ask(lambda transaction: transaction.submission_keys(instance))

    def _conflicts(self, batch: Batch, known: Sequence[bytes]) -> bool:
        """Return whether other answers came under the same instance id: in the queue, or as parts of a batch."""
        begun = self._batches.of_instance(batch.instance)
        return _others(batch, known) or any(other != batch for other in begun)

    async def _submit_nameless(self, post: ReceivedPost, xml: bytes) -> Answer:
        """Without an instance id nothing can be joined, and nothing be known again."""
        if post.incomplete:
            raise Refusal(Outcome.UNACCEPTABLE, "it comes in several requests, but its XML has no instanceID")
        return await self._take(Joined(xml, tuple(post.attachments())), self._new_occasion())

    async def _submit_named(self, post: ReceivedPost, batch: Batch, *, is_edit: bool) -> Answer:
        known = await self._known(batch.instance)
        if self._conflicts(batch, known) and not is_edit:
            return _conflict()
        begun = self._batches.of_instance(batch.instance)
        with_files = any(len(key) > len(batch.instance + batch.xml_digest) for key in known)
        if with_files and batch not in begun and self._are_taken(post, batch):
            return Answer(Outcome.STAGED if post.incomplete else Outcome.REPEATED)
        if post.incomplete or batch in begun:
            await self._keep(post, batch, begun=batch in begun)
            return Answer(Outcome.STAGED) if post.incomplete else await self._take_batch(batch)
        if known and not _others(batch, known) and not post.has_attachments:
            # Whatever files came with them: these answers are in the queue.
            return Answer(Outcome.REPEATED)
        return await self._take(Joined(post.xml(), tuple(post.attachments())), "")

    def _are_taken(self, post: ReceivedPost, batch: Batch) -> bool:
        """Return whether the files of a request are in the queue as part of a batch; the answers are."""
        taken = self._batches.taken_files(batch)
        return bool(taken) and all(taken.get(each.name) == file_digest(each) for each in post.attachments())

    async def _keep(self, post: ReceivedPost, batch: Batch, *, begun: bool) -> None:
        """Keep a request durably beside those that came before it; raises Refusal, ProtocolError or OSError."""
        before = await self._join(batch) if begun else Joined(b"", ())
        named = {each.name: each for each in (*before.attachments, *post.attachments())}
        self._check_size(Joined(post.xml(), tuple(named.values())))
        without_room = self._intake.without_room(post.data_bytes)
        if without_room is not None:
            log.warning("submission_refused", problem=without_room.problem)
            raise Refusal(Outcome.DISK_FULL)
        files = post.attachments()
        await asyncio.to_thread(self._batches.add, batch, post.xml(), files, last=not post.incomplete)
        log.info("openrosa_part_kept", attachments=len(files), bytes=post.data_bytes)

    def _check_size(self, joined: Joined) -> None:
        if joined.written_bytes > self._bytes_max or len(joined.attachments) > ATTACHMENTS_MAX:
            problem = f"all of it has more than {self._bytes_max:,} bytes or {ATTACHMENTS_MAX:,} files"
            log.warning("submission_refused", problem=problem)
            raise Refusal(Outcome.TOO_LARGE, problem)

    async def _take_batch(self, batch: Batch) -> Answer:
        """Join what came, hand it over, and only then let the parts go."""
        joined = await self._join(batch)
        answer = await self._take(joined, "")
        if answer.outcome.is_success:
            await asyncio.to_thread(self._batches.conclude, batch, joined)
        return answer

    async def _join(self, batch: Batch) -> Joined:
        try:
            return await asyncio.to_thread(self._batches.join, batch)
        except ProtocolError as error:
            place = await asyncio.to_thread(self._batches.put_aside, batch)
            log.error("openrosa_batch_damaged", problem=error.detail, place=str(place))
            problem = "what came before was damaged on the disk; send all of it again"
            raise Refusal(Outcome.NOT_NOW, problem) from None

    async def _take(self, joined: Joined, occasion: str) -> Answer:
        self._check_size(joined)
        media_type = MEDIA_TYPE_ATTACHMENTS if joined.attachments else MEDIA_TYPE_XML
        return await self._hand_over(RawSubmission(body_of(joined), media_type), occasion)

    async def _hand_over(self, raw: RawSubmission, occasion: str) -> Answer:
        (answer,) = await self._intake.take([raw], occasion)
        if isinstance(answer, Accepted):
            return Answer(Outcome.REPEATED if answer.repeated else Outcome.TAKEN)
        if answer.full:
            return Answer(Outcome.DISK_FULL)
        return Answer(Outcome.NOT_NOW if answer.again else Outcome.UNACCEPTABLE, answer.problem)

    @asynccontextmanager
    async def _turn(self, instance: bytes) -> AsyncIterator[None]:
        turn = self._turns.setdefault(instance, asyncio.Lock())
        async with turn:
            yield

    @asynccontextmanager
    async def _room_for(self, data_bytes: int) -> AsyncIterator[None]:
        """Large questionnaires are in memory one at a time: whole, as one body, and sealed."""
        if data_bytes <= MEMORY_BYTES_MAX:
            yield
            return
        async with self._large:
            yield


def _conflict() -> Answer:
    log.warning("openrosa_conflict")
    return Answer(Outcome.CONFLICT)


def _is_among(batch: Batch, keys: Sequence[bytes]) -> bool:
    return any(key.startswith(batch.instance + batch.xml_digest) for key in keys)


def _others(batch: Batch, keys: Sequence[bytes]) -> bool:
    return any(not key.startswith(batch.instance + batch.xml_digest) for key in keys)


def _identity_of(xml: bytes) -> XFormIdentity:
    """Return what the XML says of itself; raises Refusal for what the intake would refuse, before any of it is kept."""
    identity = read_xform(xml)
    if isinstance(identity, Unacceptable):
        log.warning("submission_refused", problem=identity.problem)
        raise Refusal(Outcome.BAD_XML, identity.problem)
    if not identity.form:
        raise Refusal(Outcome.BAD_XML, "its root element has no id, so it does not say which form it is")
    named = (("form", identity.form), ("form version", identity.form_version), ("instanceID", identity.instance_id))
    for what, text in named:
        if len(text) > NAME_CHARACTERS_MAX or not text.isprintable():
            problem = f"its {what} is longer than {NAME_CHARACTERS_MAX} characters or not printable"
            raise Refusal(Outcome.UNACCEPTABLE, problem)
    return identity
