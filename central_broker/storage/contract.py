"""What the center asks of its database: the records, and the `Storage` protocol that SQLite and PostgreSQL both keep.

Times are microseconds since 1970 UTC. Ids of envelopes have 32 bytes, names of devices 16.

**Commit time.** Every transaction that adds or changes envelopes ends by advancing one row, the commit clock, to
max(its value + 1, now), and names its batch with that value. As the row stays locked until the commit, commit times are
unique and in the order in which commits become visible: who has read clock value C sees every batch up to C. The backup
watermark and incremental reads stand on this, and on nobody's clock.

Not responsible for deciding what is committed or held: see `central_broker.acceptance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from central_broker.forms.tables import Table
from central_broker.storage.census_records import Answers, FormRecord, Row, StoredQuestionnaire
from central_broker.storage.coverage_records import CoverageStorage
from sync_protocol.head import Head
from sync_protocol.identity import DeviceCertificate, Role, Standing
from sync_protocol.medium import MediumCertificate

STORED_NUMBER_MAX: Final = (1 << 63) - 1
"""Databases count in signed 64 bits; greater sequences and serials are refused before they come here."""


RUN_ENDS_MAX: Final = 100
"""Spans that one receipt ends for carriers' sake, some 5 KB. Whoever is not among the newest brings its run again."""


class StorageUnavailable(Exception):
    """The database cannot be asked now (stopped, locked for long, disk full). Nothing was changed; try later."""


class StorageRefused(ValueError):
    """The request contradicts what is stored; the message says what to do instead."""


class Route(StrEnum):
    """How an envelope reached the center. What lies between its origin and another carrier is that carrier's word."""

    VPN = "vpn"
    """Brought by its own origin, a device of the field."""
    ONLINE = "online"
    """Brought by its own origin, a device that is certified to take in what was filled on the census web site."""
    MESH = "mesh"
    """Brought by another carrier, and handed on over the mesh only."""
    USB = "usb"
    """Brought by another carrier, and handed on by a medium at least once."""
    RELAY = "relay"
    """Brought by another carrier that says nothing of its way: an edge of an earlier release."""

    @property
    def is_direct(self) -> bool:
        """Whether the origin itself stood at the broker: its sign of life, and no hops."""
        return self in (Route.VPN, Route.ONLINE)


class EnvelopeStatus(StrEnum):
    """What the center did with an envelope."""

    COMMITTED = "committed"
    HELD = "held"
    DISPROVED = "disproved"
    """Held while its origin was unknown; the origin is known now and did not sign it. In no receipt."""


class HeldReason(StrEnum):
    """Why data were kept aside instead of committed."""

    UNKNOWN_ORIGIN = "unknown_origin"
    BAD_SIGNATURE = "bad_signature"
    RETURNED_ORIGIN = "returned_origin"
    LOST_ORIGIN = "lost_origin"
    REVOKED_ORIGIN = "revoked_origin"
    WRONG_RECIPIENT = "wrong_recipient"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_SUITE = "unknown_suite"
    UNDECRYPTABLE = "undecryptable"
    UNPARSABLE = "unparsable"
    UNKNOWN_FORM = "unknown_form"
    MALFORMED = "malformed"
    DATABASE_REFUSED = "database_refused"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How something came: `carrier` is the device that the broker vouches for; None when retried without one.

    `hops` is how often it was handed on before the carrier brought it, 255 for more: 0 from the origin itself, None
    where nobody said.
    """

    carrier: bytes | None
    route: Route
    received_at: int
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class ChainLink:
    """An envelope's place: all that receipts, forks and completeness are made of."""

    origin: bytes
    id: bytes
    epoch: int
    sequence: int
    previous_id: bytes


@dataclass(frozen=True, slots=True)
class QuestionnaireContent:
    """A whole questionnaire. `body` is exact; `content` is JSON text that every database accepts (None: unreadable).

    `answers` is None as long as the center only knows the form by name.
    """

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    body: bytes
    content: str | None
    answers: Answers | None = None


@dataclass(frozen=True, slots=True)
class PartContent:
    """One of several parts of a questionnaire. `whole` is the same 32 bytes for all parts of it, and for no others."""

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    whole: bytes
    part: int
    parts: int
    whole_digest: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DeviceKeyContent:
    """A recipient key (1,216 bytes, checked) that the envelope's origin has made for what is sealed to it."""

    public_key: bytes


@dataclass(frozen=True, slots=True)
class AcceptedEnvelope:
    """An envelope that is to be committed, with its exact bytes (kept only if the database refuses the content)."""

    link: ChainLink
    arrival: Arrival
    data: bytes
    content: QuestionnaireContent | PartContent | DeviceKeyContent


@dataclass(frozen=True, slots=True)
class HeldItem:
    """Bytes to be held. `id` is their SHA-256.

    `receiptable` (only with a link): the origin signed it, or the origin is unknown. Otherwise it takes no place in
    the chain that it claims.
    """

    id: bytes
    reason: HeldReason
    detail: str
    data: bytes
    arrival: Arrival
    link: ChainLink | None
    receiptable: bool


@dataclass(frozen=True, slots=True)
class CertifiedDevice:
    """A verified device certificate with its statement's exact bytes."""

    certificate: DeviceCertificate
    data: bytes


@dataclass(frozen=True, slots=True)
class CertifiedMedium:
    """A verified medium certificate with its statement's exact bytes."""

    certificate: MediumCertificate
    data: bytes


@dataclass(frozen=True, slots=True)
class ArrivedHead:
    """A verified head and who brought it."""

    head: Head
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Joined parts that are no questionnaire: the body is kept without content, and listed as held."""

    reason: HeldReason
    detail: str


WholeDecoder = Callable[[PartContent, bytes], QuestionnaireContent | Unreadable]
"""Makes a questionnaire of (any of its parts, the joined body)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction shall record. Everything in it was verified by acceptance."""

    envelopes: Sequence[AcceptedEnvelope] = ()
    held: Sequence[HeldItem] = ()
    heads: Sequence[ArrivedHead] = ()
    devices: Sequence[CertifiedDevice] = ()
    media: Sequence[CertifiedMedium] = ()


class OutcomeKind(StrEnum):
    """What became of one envelope or held item."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fork`: another envelope stands at the same origin, epoch and sequence; both are kept. An alarm."""

    kind: OutcomeKind
    reason: HeldReason | None = None
    fork: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """`committed_at` is None when nothing new was stored; outcomes in the order of Batch.envelopes and Batch.held."""

    committed_at: int | None
    envelopes: tuple[Outcome, ...]
    held: tuple[Outcome, ...]
    joined: int = 0
    """Questionnaires completed by their last part."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device that the center knows.

    `last_seen_at` and the rest tell of its last sign of life: anything that it brought itself, or an envelope of it
    that was new when another brought it; kept to about ten seconds.
    """

    device: bytes
    name: str
    role: Role
    standing: Standing
    public_key: bytes
    issued_at: int
    serial: int
    certificate: bytes
    enrolled_at: int
    last_seen_at: int | None
    last_route: Route | None
    last_carrier: bytes | None
    last_hops: int | None = None


@dataclass(frozen=True, slots=True)
class MediumRecord:
    """A medium that the center knows, by its newest certificate; `recorded_at` is when the first of it came here."""

    medium: bytes
    number: str
    holder: str
    standing: Standing
    issued_at: int
    expires_at: int
    serial: int
    certificate: bytes
    recorded_at: int


@dataclass(frozen=True, slots=True)
class CountedListRecord:
    """What a device was given last. `digest` is the SHA-256 of the list, `recipient` the name of the key that it was
    sealed to: with both the same there is nothing new to give.
    """

    serial: int
    recipient: bytes
    digest: bytes
    statement: bytes


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """One held thing as operators list it; `data` only comes with `held_item`. `origin` and the rest may be claims."""

    id: bytes
    reason: HeldReason
    detail: str
    origin: bytes | None
    epoch: int | None
    sequence: int | None
    envelope_id: bytes | None
    carrier: bytes | None
    route: Route
    hops: int | None
    received_at: int
    data_bytes: int
    whole: bool = False
    """Joined parts of a questionnaire that cannot be read; its envelopes are committed."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Several envelopes that an origin put at one place of its chain."""

    origin: bytes
    epoch: int
    sequence: int
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Completeness:
    """How complete one epoch of one origin is.

    `highest` is the highest sequence received; `sealed` the highest that the origin has signed, in its newest head or
    in an envelope, which may come by a carrier before any head. `missing` are inclusive runs of sequences up to
    `sealed` of which nothing is here, at most 100 runs; `missing_count` counts all.
    """

    origin: bytes
    epoch: int
    sealed: int
    highest: int
    committed: int
    held: int
    missing_count: int
    missing: tuple[tuple[int, int], ...]
    forks: int
    last_committed_at: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Whole-database counts for status and balance."""

    envelopes_committed: int
    envelopes_held: int
    held_items: int
    questionnaires: int
    questionnaires_unreadable: int
    parts_waiting: int
    outbox: int


@dataclass(frozen=True, slots=True)
class RouteCount:
    """How many envelopes came first by one route; `hops_mean` of those whose hops somebody said, None when nobody."""

    route: Route
    envelopes: int
    hops_mean: float | None


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One receiptable envelope, as receipts are built from it."""

    epoch: int
    sequence: int
    id: bytes
    previous_id: bytes
    status: EnvelopeStatus
    committed_at: int


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The last of a run of envelopes that a carrier brought: what a receipt must vouch for by its id.

    A carrier may have nothing else of that chain, so no later id leads it to these.
    """

    origin: bytes
    id: bytes
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Want:
    """An origin that waits for a receipt. `wanted` grows with every new reason; `fresh` asks for a new serial."""

    origin: bytes
    wanted: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class ReceiptGrant:
    """What one origin's next receipt is made with; `last` are the bytes of the newest so far.

    `republishable`: `last` answers the origin's newest head, so that it may be sent again as it is.
    `newest_epoch` is the last one of which the origin has stated a head; 0 when none. `run_ends` are the newest that
    carriers brought of this origin, at most RUN_ENDS_MAX.
    """

    origin: bytes
    serial: int
    last: bytes | None
    republishable: bool
    newest_epoch: int
    run_ends: Sequence[RunEnd] = ()


class ReceiptIssue(Protocol):
    """An open transaction that holds the receipt locks of some origins; see `Storage.issue_receipts`."""

    @property
    def watermark(self) -> int: ...

    @property
    def grants(self) -> Sequence[ReceiptGrant]: ...

    def chain(self, origin: bytes) -> tuple[int, list[ChainRow]]:
        """Return (clock, all receiptable rows up to it by epoch, sequence, id)."""
        ...

    def changes(self, after: int, rows_max: int) -> tuple[int, list[tuple[bytes, ChainRow]]] | None:
        """Return (clock, rows of every origin with a commit time in (after, clock], by commit time and sequence).

        DISPROVED rows are among them. None when there are more than `rows_max`, or the clock is behind `after`.
        """
        ...

    def store(self, origin: bytes, serial: int, data: bytes) -> None:
        """Store a signed receipt; it is real once the transaction has committed."""
        ...


class Storage(CoverageStorage, Protocol):
    """The census database. One instance belongs to one process, and is used by one thread at a time; any number of
    processes may have one.

    Every method is one transaction, and raises StorageUnavailable when the database cannot be asked: then nothing was
    changed, unless the answer to a commit was lost, which is why every method may be repeated. A connection that
    broke is made again by the next call.
    """

    def migrate(self) -> None:
        """Bring the schema to this version; safe when several processes do it at once. `open_storage` calls it."""
        ...

    def close(self) -> None: ...

    # The consumer

    def commit(self, batch: Batch, decode_whole: WholeDecoder, now: int) -> BatchResult:
        """Record a batch in one transaction: each envelope exactly once, whatever came before or comes at once.

        An accepted envelope that was held until now becomes committed with a new commit time (that is what a retry
        is). A held item that is held already gets the new reason. Parts are joined by the transaction that stores the
        last one. An envelope that the database itself refuses is held as `database_refused` and never costs the others.
        Of an envelope that comes again, the first arrival stays recorded.
        Origins whose standing in the chain was touched or asked for, and those whose head names another receipt than
        the newest, are put into the outbox.
        """
        ...

    def directory_version(self) -> int:
        """Return a number that grows whenever devices, media or forms change: cheap to ask, to know when to load
        anew.
        """
        ...

    # Devices, media and forms

    def store_devices(self, devices: Sequence[CertifiedDevice], now: int) -> int:
        """Store certificates that are new or have a greater serial than the known one; return how many were."""
        ...

    def devices(self) -> list[DeviceRecord]:
        """Return every device, by name."""
        ...

    def device(self, device: bytes) -> DeviceRecord | None: ...

    def store_media(self, media: Sequence[CertifiedMedium], now: int) -> int:
        """Store certificates that are new or have a greater serial than the known one; return how many were."""
        ...

    def media(self) -> list[MediumRecord]:
        """Return every medium, by number."""
        ...

    def medium(self, medium: bytes) -> MediumRecord | None: ...

    def allow_form(self, form: str, version: str = "") -> None:
        """Make a form known; version '' stands for every version of it."""
        ...

    def forms(self) -> list[tuple[str, str]]: ...

    def store_form(self, form: FormRecord, tables: Sequence[Table]) -> None:
        """Keep a version of a form, and make the tables and columns that it needs and that are not there yet.

        Nothing is ever dropped. Raises StorageRefused when a table has a column of another type by that name.
        """
        ...

    def publish_form(self, form: str, version: str, statement: bytes, files: Sequence[tuple[str, bytes]] = ()) -> None:
        """Keep what devices are given of a version; no other version of the form is given to them any more.

        `files` are (name, statement), each in the place of what was given before under that name. All or nothing.
        """
        ...

    def form_files(self) -> list[tuple[str, str, bytes]]:
        """Return (form, name, statement) of every file that devices are given, or were and are told is taken back."""
        ...

    def form_records(self) -> list[FormRecord]:
        """Return every known form and version, by both."""
        ...

    def form_tables(self, form: str) -> list[Table]:
        """Return a form's tables with all columns that any version of it has asked for, the questionnaires' first."""
        ...

    def questionnaires(self, form: str, after: tuple[bytes, bytes], limit: int) -> list[StoredQuestionnaire]:
        """Return so many questionnaires of a form as received, by (origin, id), beginning after that one."""
        ...

    def replace_answers(self, form: str, replaced: Sequence[tuple[StoredQuestionnaire, QuestionnaireContent]]) -> None:
        """Put what is given in the place of all rows and findings of these questionnaires, and of their content."""
        ...

    def rows(self, table: Table, after: Sequence[object], limit: int, *, counting: Table | None) -> list[Row]:
        """Return so many rows of a census table by its key (`census_tables.KEYS`), beginning after that one.

        With `counting`, the table of the form's questionnaires, only of those that count: that no edit has replaced,
        and of several with one instance id the one committed first.
        """
        ...

    def finding_counts(self, form: str) -> list[tuple[str, str, int]]:
        """Return (path, rule, how many) of a form's findings, by path and rule."""
        ...

    # Lists of who is counted already

    def device_key(self, device: bytes) -> bytes | None:
        """Return the newest recipient key that a device has made, by its chain; None when it has told none yet."""
        ...

    def put_counted_list(self, device: bytes, given: CountedListRecord) -> bool:
        """Keep a list for a device if its serial is greater than that of the one kept; say whether it was."""
        ...

    def counted_list(self, device: bytes) -> CountedListRecord | None:
        """Return the newest list for a device."""
        ...

    def counted_lists(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return (turn, statement) of so many lists, those first that were put first, beginning after that turn.

        A list that takes another's place has a turn greater than every one before.
        """
        ...

    # Receipts

    def take_wants(self, limit: int, now: int, lease_microseconds: int) -> list[Want]:
        """Take origins out of the outbox, longest waiting first: nobody else gets them before the lease ends.

        A lease only spares double work: whoever dies with one loses nothing.
        """
        ...

    def finish_wants(self, wants: Sequence[Want]) -> None:
        """Delete what has been published, unless it was wanted again meanwhile: then it may be taken at once."""
        ...

    def want_receipts(self, origins: Sequence[bytes], now: int) -> None:
        """Put origins into the outbox."""
        ...

    def issue_receipts(self, origins: Sequence[bytes], now: int) -> AbstractContextManager[ReceiptIssue]:
        """Open a transaction under the receipt locks of these origins; it commits when the context ends well.

        A grant's serial is max(last + 1, now, serial named by the origin's heads + 1).
        """
        ...

    def receipt(self, origin: bytes) -> bytes | None:
        """Return the newest receipt's statement bytes."""
        ...

    # The backup watermark

    def clock(self) -> int:
        """Return the newest commit time: every batch up to it is visible. 0 when there is none."""
        ...

    def watermark(self) -> int:
        """Return the commit time up to which everything is in a backup; 0 when nothing is."""
        ...

    def record_watermark(self, reached: int, now: int) -> int:
        """Move the watermark; return how many origins get a new receipt for it.

        Raises StorageRefused beyond the clock or below the present watermark.
        """
        ...

    def copy_to(self, target: Path) -> int:
        """Write a consistent copy of the database to a new file; return the clock in the copy, read from it.

        Everything up to that value is in the copy. Checks the copy's integrity. SQLite only: PostgreSQL raises
        StorageRefused, because a site has its own backup.
        """
        ...

    # What operators ask

    def completeness(self, origin: bytes | None = None) -> list[Completeness]:
        """Return one record for every (origin, epoch) that has a head or an envelope, in that order."""
        ...

    def forks(self) -> list[Fork]: ...

    def held(
        self, *, reason: HeldReason | None = None, origin: bytes | None = None, limit: int = 1000
    ) -> list[HeldRecord]:
        """Return held things, oldest first."""
        ...

    def held_counts(self) -> dict[HeldReason, int]: ...

    def held_item(self, held_id: bytes) -> tuple[HeldRecord, bytes] | None:
        """Return one held thing with its raw bytes (of joined parts: the body)."""
        ...

    def retry_wholes(self, held_ids: Sequence[bytes], decode_whole: WholeDecoder) -> int:
        """Decode unreadable joined questionnaires again; return how many became readable.

        For held things that are envelopes use `central_broker.retry`.
        """
        ...

    def totals(self) -> Totals: ...

    def routes(self, origin: bytes | None = None) -> list[RouteCount]:
        """Return how envelopes came, of one origin or all: the routes that occur, in the order of `Route`."""
        ...
