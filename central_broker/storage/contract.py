"""What the center asks of its database: the `Storage` protocol that SQLite and PostgreSQL both keep.

Times are microseconds since 1970 UTC. Ids of envelopes have 32 bytes, names of devices 16.

**Commit time.** Every transaction that adds or changes envelopes ends by advancing one row, the commit clock, to
max(its value + 1, now), and names its batch with that value. As the row stays locked until the commit, commit times are
unique and in the order in which commits become visible: who has read clock value C sees every batch up to C. The backup
watermark and incremental reads stand on this, and on nobody's clock.

Not responsible for deciding what is committed or held: see `central_broker.acceptance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from central_broker.forms.tables import Table
from central_broker.storage.batch_records import (
    Batch,
    BatchResult,
    CertifiedDevice,
    CertifiedMedium,
    HeldReason,
    QuestionnaireContent,
    WholeDecoder,
)
from central_broker.storage.census_records import FormRecord, Row, StoredQuestionnaire
from central_broker.storage.coverage_records import CoverageStorage
from central_broker.storage.inquiry_records import (
    Completeness,
    CountedListRecord,
    DeviceRecord,
    Fork,
    HeldRecord,
    MediumRecord,
    RouteCount,
    Totals,
)
from central_broker.storage.receipt_records import ReceiptIssue, Want


class StorageUnavailable(Exception):
    """The database cannot be asked now (stopped, locked for long, disk full). Nothing was changed; try later."""


class StorageRefused(ValueError):
    """The request contradicts what is stored; the message says what to do instead."""


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
