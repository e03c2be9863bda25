"""What one batch does to the database, written once for both databases.

The order of the statements is part of the contract: rows are sorted, so that two consumers never wait for each other
in a circle, and the commit clock comes last, so that its lock is held for the shortest time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, LiteralString, Protocol

from central_broker.forms.tables import Table
from central_broker.storage.answering import CensusKey, insert_answers
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    Arrival,
    ArrivedHead,
    Batch,
    BatchResult,
    CertifiedDevice,
    ChainLink,
    DeviceKeyContent,
    EnvelopeStatus,
    HeldItem,
    HeldReason,
    Outcome,
    OutcomeKind,
    PartContent,
    QuestionnaireContent,
    Route,
    Unreadable,
    WholeDecoder,
)
from central_broker.storage.census_records import Row
from central_broker.storage.lists import upsert_device_keys
from central_broker.storage.media import upsert_media
from central_broker.storage.receipt_records import RunEnd

Key = tuple[bytes, bytes]
"""(origin, envelope id)"""

Place = tuple[bytes, int, int]
"""(origin, epoch, sequence)"""


@dataclass(frozen=True, slots=True)
class Placed:
    """An envelope row to be inserted."""

    link: ChainLink
    arrival: Arrival
    status: EnvelopeStatus


@dataclass(frozen=True, slots=True)
class QuestionnaireRow:
    """A questionnaire row: the place of its (first) envelope, and how many envelopes it came in.

    `whole_digest` is kept of joined ones only.
    """

    origin: bytes
    id: bytes
    epoch: int
    sequence: int
    parts: int
    content: QuestionnaireContent
    whole_digest: str | None = None


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A held row; `whole` marks an unreadable joined questionnaire, whose body is in its questionnaire row."""

    item: HeldItem
    whole: bool = False


@dataclass(frozen=True, slots=True)
class CompleteWhole:
    """All parts of one questionnaire, joined; the place is that of the first part."""

    origin: bytes
    id: bytes
    epoch: int
    sequence: int
    part: PartContent
    body: bytes


class RowRefused(Exception):
    """The database refused the data of some row of the batch, which no retry will change."""


class Statements(Protocol):
    """The statements of one open transaction."""

    def execute(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run any one statement of PostgreSQL's spelling (%s for parameters, FOR UPDATE); return its rows."""
        ...

    @property
    def batch(self) -> int:
        """The number of this transaction's batch."""
        ...

    def place(self, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        """Insert the rows that are not there yet; return the status of those that were."""
        ...

    def change_status(self, keys: Sequence[Key], status: EnvelopeStatus) -> Collection[Key]:
        """Give rows that are not committed another status; return those that really changed."""
        ...

    def insert_questionnaires(self, rows: Sequence[QuestionnaireRow]) -> None: ...

    def make(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement of `census_tables`, which has checked the names in it; return its rows."""
        ...

    def insert_answers(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows of one census table: its key columns, then its answers."""
        ...

    def insert_rows(
        self, table: LiteralString, columns: Sequence[tuple[LiteralString, LiteralString]], rows: Sequence[Row]
    ) -> None:
        """Insert rows into a table; `columns` are (name, type in PostgreSQL)."""
        ...

    def set_content(self, origin: bytes, envelope_id: bytes, content: QuestionnaireContent) -> None:
        """Fill in the content of a questionnaire that could not be read until now."""
        ...

    def insert_parts(self, parts: Sequence[tuple[ChainLink, PartContent]]) -> list[CompleteWhole]:
        """Insert parts; take out the wholes that are complete now. Serialises consumers on the same whole."""
        ...

    def known_held(self, ids: Sequence[bytes]) -> Mapping[bytes, bool]:
        """Return which of these are held, and whether receiptable."""
        ...

    def upsert_held(self, rows: Sequence[HeldRow]) -> None: ...

    def delete_held(self, ids: Sequence[bytes]) -> None: ...

    def backed_keys(self, keys: Sequence[Key]) -> Collection[Key]:
        """Return those of the keys that a receiptable held item still stands behind."""
        ...

    def forked(self, places: Collection[Place]) -> Collection[Place]:
        """Return those of the places at which more than one envelope stands."""
        ...

    def upsert_heads(self, heads: Sequence[ArrivedHead]) -> Collection[bytes]:
        """Keep the newest heads; return the origins whose head names another receipt than their newest."""
        ...

    def upsert_devices(self, devices: Sequence[CertifiedDevice], now: int) -> int: ...

    def upsert_run_ends(self, run_ends: Sequence[RunEnd], now: int) -> None:
        """Keep ends of runs that carriers brought, with the time when one last did."""
        ...

    def see_devices(self, seen: Mapping[bytes, Arrival]) -> None: ...

    def want(self, origins: Mapping[bytes, bool], now: int) -> None:
        """Put origins into the outbox; the value says whether a fresh serial is asked for."""
        ...

    def tick(self, now: int) -> int:
        """Advance the commit clock and name the batch with it; the last statement of the transaction."""
        ...


def record(batch: Batch, statements: Statements, decode_whole: WholeDecoder, now: int) -> BatchResult:
    """Record a batch inside the transaction of `statements` (see `contract.Storage.commit`)."""
    return _Recorder(statements, decode_whole, now).record(batch)


@dataclass
class _Recorder:
    statements: Statements
    decode_whole: WholeDecoder
    now: int
    changed: bool = False
    joined: int = 0
    wanted: dict[bytes, bool] = field(default_factory=dict)
    seen: dict[bytes, Arrival] = field(default_factory=dict)

    def record(self, batch: Batch) -> BatchResult:
        if batch.devices:
            self.statements.upsert_devices(batch.devices, self.now)
        if batch.media:
            upsert_media(self.statements, batch.media, self.now)
        existing = self._place(batch)
        new, stored = self._commit(batch.envelopes, existing)
        held, held_new = self._hold(batch.held, existing, {(e.link.origin, e.link.id) for e in batch.envelopes})
        links = [envelope.link for envelope in new] + held_new
        forked = self._forked(links)
        if batch.heads:
            for origin in self.statements.upsert_heads(batch.heads):
                self.wanted.setdefault(origin, False)
        run_ends = _run_ends(batch)
        if run_ends:
            self.statements.upsert_run_ends(run_ends, self.now)
        self._note(batch, stored, held)
        if self.seen:
            self.statements.see_devices(self.seen)
        if self.wanted:
            self.statements.want(self.wanted, self.now)
        committed_at = self.statements.tick(self.now) if self.changed else None
        return BatchResult(
            committed_at,
            tuple(_with_fork(o, e.link, forked) for o, e in zip(stored, batch.envelopes, strict=True)),
            tuple(_with_fork(o, h.link, forked) for o, h in zip(held, batch.held, strict=True)),
            self.joined,
        )

    def _place(self, batch: Batch) -> Mapping[Key, EnvelopeStatus]:
        # Backwards, so that of one envelope by two routes the arrival that came first is the one that stays.
        rows: dict[Key, Placed] = {}
        for item in reversed(batch.held):
            if item.link is not None and item.receiptable:
                rows[item.link.origin, item.link.id] = Placed(item.link, item.arrival, EnvelopeStatus.HELD)
        for envelope in reversed(batch.envelopes):
            link = envelope.link
            rows[link.origin, link.id] = Placed(link, envelope.arrival, EnvelopeStatus.COMMITTED)
        if not rows:
            return {}
        existing = self.statements.place([rows[key] for key in sorted(rows)])
        self.changed = len(existing) < len(rows)
        return existing

    def _commit(
        self, envelopes: Sequence[AcceptedEnvelope], existing: Mapping[Key, EnvelopeStatus]
    ) -> tuple[list[AcceptedEnvelope], list[Outcome]]:
        """Commit what is new or was held; return it, and every envelope's outcome."""
        promotable = sorted(
            {
                key
                for e in envelopes
                if (key := (e.link.origin, e.link.id)) in existing and existing[key] is not EnvelopeStatus.COMMITTED
            }
        )
        promoted = self.statements.change_status(promotable, EnvelopeStatus.COMMITTED) if promotable else ()
        new: dict[Key, AcceptedEnvelope] = {}
        outcomes = []
        for envelope in envelopes:
            key = (envelope.link.origin, envelope.link.id)
            if key in new or (key in existing and key not in promoted):
                outcomes.append(_DUPLICATE)
            else:
                new[key] = envelope
                outcomes.append(_STORED)
        if promoted:
            self.changed = True
        if existing:
            # Only the very bytes that were accepted now: another variant of them is still nobody's.
            known = [e for e in envelopes if (e.link.origin, e.link.id) in existing]
            self.statements.delete_held(sorted({sha256(e.data).digest() for e in known}))
        self._insert_contents(list(new.values()))
        return list(new.values()), outcomes

    def _insert_contents(self, envelopes: Iterable[AcceptedEnvelope]) -> None:
        rows: list[QuestionnaireRow] = []
        parts: list[tuple[ChainLink, PartContent]] = []
        keys: list[tuple[ChainLink, DeviceKeyContent]] = []
        for envelope in envelopes:
            link, content = envelope.link, envelope.content
            if isinstance(content, PartContent):
                parts.append((link, content))
            elif isinstance(content, DeviceKeyContent):
                keys.append((link, content))
            else:
                rows.append(QuestionnaireRow(link.origin, link.id, link.epoch, link.sequence, 1, content))
        if parts:
            parts.sort(key=lambda part: (part[0].origin, part[1].whole, part[1].part))
            rows.extend(self._join(whole) for whole in self.statements.insert_parts(parts))
        if keys:
            upsert_device_keys(self.statements, keys)
        if rows:
            self.statements.insert_questionnaires(rows)
            insert_answers(self.statements, [(census_key(row, self.statements.batch), row.content) for row in rows])

    def _join(self, whole: CompleteWhole) -> QuestionnaireRow:
        part = whole.part
        content = self.decode_whole(part, whole.body)
        if isinstance(content, Unreadable):
            link = ChainLink(whole.origin, whole.id, whole.epoch, whole.sequence, bytes(32))
            held_id = sha256(whole.origin + whole.id).digest()
            arrival = Arrival(None, Route.RELAY, self.now)
            item = HeldItem(held_id, content.reason, content.detail, b"", arrival, link, False)
            self.statements.upsert_held([HeldRow(item, whole=True)])
            content = QuestionnaireContent(
                part.form, part.form_version, part.instance_id, part.media_type, part.created_at, whole.body, None
            )
        self.joined += 1
        return QuestionnaireRow(
            whole.origin, whole.id, whole.epoch, whole.sequence, part.parts, content, part.whole_digest
        )

    def _hold(
        self, items: Sequence[HeldItem], existing: Mapping[Key, EnvelopeStatus], accepted: Collection[Key]
    ) -> tuple[list[Outcome], list[ChainLink]]:
        """Hold items; return their outcomes, and the links that have newly taken their place."""
        if not items:
            return [], []
        known = self.statements.known_held([item.id for item in items])
        rows: dict[bytes, HeldRow] = {}
        outcomes: list[Outcome] = []
        links: dict[Key, ChainLink] = {}
        returned: list[Key] = []
        for item in items:
            key = (item.link.origin, item.link.id) if item.link is not None and item.receiptable else None
            if key is not None and (key in accepted or existing.get(key) is EnvelopeStatus.COMMITTED):
                outcomes.append(_DUPLICATE)
                continue
            earlier = rows.get(item.id)
            is_known = item.id in known or earlier is not None
            rows[item.id] = HeldRow(item if earlier is None else replace(item, arrival=earlier.item.arrival))
            if key is not None and item.link is not None:
                if key not in existing:
                    links[key] = item.link
                elif existing[key] is EnvelopeStatus.DISPROVED:
                    returned.append(key)
            outcomes.append(Outcome(OutcomeKind.DUPLICATE if is_known else OutcomeKind.HELD, item.reason))
        self.statements.upsert_held([rows[item_id] for item_id in sorted(rows)])
        if returned and self.statements.change_status(sorted(set(returned)), EnvelopeStatus.HELD):
            self.changed = True
        self._disprove([row.item for row in rows.values() if known.get(row.item.id) and not row.item.receiptable])
        return outcomes, list(links.values())

    def _disprove(self, items: Sequence[HeldItem]) -> None:
        """Take out of the chain what was held for an unknown origin that turned out not to have signed it."""
        keys = sorted({(item.link.origin, item.link.id) for item in items if item.link is not None})
        if not keys:
            return
        backed = self.statements.backed_keys(keys)
        gone = [key for key in keys if key not in backed]
        if gone and self.statements.change_status(gone, EnvelopeStatus.DISPROVED):
            self.changed = True
            self.wanted.update((origin, True) for origin, _ in gone)

    def _forked(self, links: Sequence[ChainLink]) -> Collection[Place]:
        return self.statements.forked({(x.origin, x.epoch, x.sequence) for x in links}) if links else ()

    def _note(self, batch: Batch, stored: Sequence[Outcome], held: Sequence[Outcome]) -> None:
        """Note who shall get a receipt and who gave a sign of life."""
        for envelope, outcome in zip(batch.envelopes, stored, strict=True):
            self.wanted[envelope.link.origin] = True
            self._see(envelope.link.origin, envelope.arrival, outcome)
        for item, outcome in zip(batch.held, held, strict=True):
            if item.link is not None and item.receiptable:
                self.wanted[item.link.origin] = True
                if item.reason is not HeldReason.UNKNOWN_ORIGIN:
                    self._see(item.link.origin, item.arrival, outcome)
        for arrived in batch.heads:
            self._see(arrived.head.origin, arrived.arrival, _DUPLICATE)

    def _see(self, origin: bytes, arrival: Arrival, outcome: Outcome) -> None:
        """An old envelope that another carries is no sign of life of its origin."""
        if arrival.route.is_direct or outcome.kind is not OutcomeKind.DUPLICATE:
            last = self.seen.get(origin)
            if last is None or last.received_at <= arrival.received_at:
                self.seen[origin] = arrival


def census_key(row: QuestionnaireRow, batch: int) -> CensusKey:
    """Return what the census tables know a questionnaire by."""
    return CensusKey(row.origin, row.id, batch, row.content.form_version, row.content.instance_id)


def _run_ends(batch: Batch) -> list[RunEnd]:
    """Return, of what carriers brought, the envelopes that no other one brought by the same carrier leads to."""
    brought: dict[bytes, list[ChainLink]] = {}
    in_chain = [(envelope.link, envelope.arrival) for envelope in batch.envelopes]
    in_chain += [(item.link, item.arrival) for item in batch.held if item.link is not None and item.receiptable]
    for link, arrival in in_chain:
        if not arrival.route.is_direct and arrival.carrier is not None:
            brought.setdefault(arrival.carrier, []).append(link)
    ends: dict[Key, RunEnd] = {}
    for links in brought.values():
        led_to = {(link.origin, link.previous_id) for link in links}
        for link in links:
            if (link.origin, link.id) not in led_to:
                ends[link.origin, link.id] = RunEnd(link.origin, link.id, link.epoch, link.sequence)
    return [ends[key] for key in sorted(ends)]


_STORED = Outcome(OutcomeKind.STORED)
_DUPLICATE = Outcome(OutcomeKind.DUPLICATE)


def _with_fork(outcome: Outcome, link: ChainLink | None, forked: Collection[Place]) -> Outcome:
    if not forked or link is None or outcome.kind is OutcomeKind.DUPLICATE:
        return outcome
    if (link.origin, link.epoch, link.sequence) not in forked:
        return outcome
    return Outcome(outcome.kind, outcome.reason, fork=True)
