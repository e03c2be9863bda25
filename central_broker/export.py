"""Census tables as files for statisticians' programs: CSV (RFC 4180, UTF-8), JSON Lines, Parquet.

One file for each table, in it the key columns and the answers; bytes are hexadecimal, dates and times ISO 8601. Reads
in pages, so that a file may be larger than memory. Not one moment's picture: what is committed while it reads may be in
one file and not yet in another.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from central_broker.forms.tables import ColumnType, Table
from central_broker.storage.census_tables import KEYS, first_key, key_columns
from central_broker.storage.contract import Storage
from operations.durable_files import sync_directory

PAGE_ROWS: Final = 5_000

Cells = tuple[Any, ...]
Write = Callable[[Sequence[Cells]], None]


class Format(StrEnum):
    """The kinds of files."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"


class ExportRefused(Exception):
    """The files cannot be written: what is the matter, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def export_table(
    storage: Storage,
    table: Table,
    folder: Path,
    kind: Format,
    *,
    counting: Table | None,
    on_rows: Callable[[int], None],
) -> tuple[Path, int]:
    """Write one table's rows (`Storage.rows`) into the folder; return the file and how many there were.

    The file has its name only when it is whole, and is its owner's alone: these are people's answers. Raises
    ExportRefused, StorageUnavailable, OSError.
    """
    path = folder / f"{table.name}.{kind.value}"
    if path.exists():
        raise ExportRefused(f"{path} exists already", "give an empty folder, so that two exports do not get mixed")
    names = (*key_columns(table.kind), *(column.name for column in table.columns))
    count = 0
    with _whole_file(path) as file, _WRITERS[kind](file, names, table) as write:
        for page in _pages(storage, table, counting):
            write(page)
            count += len(page)
            on_rows(len(page))
    return path, count


def _pages(storage: Storage, table: Table, counting: Table | None) -> Iterator[list[Cells]]:
    columns = key_columns(table.kind)
    key_places = [(*columns, *(column.name for column in table.columns)).index(name) for name in KEYS[table.kind]]
    kinds = (*(None for _ in columns), *(column.type for column in table.columns))
    after: Sequence[object] = first_key(table.kind)
    while rows := storage.rows(table, after, PAGE_ROWS, counting=counting):
        after = [rows[-1][place] for place in key_places]
        yield [tuple(_cell(value, kind) for value, kind in zip(row, kinds, strict=True)) for row in rows]


def _cell(value: Any, kind: ColumnType | None) -> Any:
    """Return a value as it is exported, whichever database it comes from."""
    if value is None:
        return None
    if kind is ColumnType.BOOLEAN:
        return bool(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return datetime.fromisoformat(value).astimezone(UTC).isoformat() if kind is ColumnType.TIMESTAMP else value


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    passing = path.with_name(f".{path.name}.part")
    passing.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        passing.rename(path)
    finally:
        passing.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextmanager
def _csv(file: IO[bytes], names: Sequence[str], _: Table) -> Iterator[Write]:
    # Spreadsheets take UTF-8 for what it is only with this mark.
    file.write(b"\xef\xbb\xbf")
    encoded = _Encoding(file)
    writer = csv.writer(encoded)
    writer.writerow(names)
    yield lambda rows: writer.writerows([[_csv_cell(value) for value in row] for row in rows])


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A spreadsheet would run what begins so. The apostrophe is what it takes as the mark of a text.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


class _Encoding:
    """Texts into a file of bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


@contextmanager
def _json_lines(file: IO[bytes], names: Sequence[str], _: Table) -> Iterator[Write]:
    encoder = msgspec.json.Encoder()
    yield (
        lambda rows: file.writelines(encoder.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows) or None
    )


@contextmanager
def _parquet(file: IO[bytes], names: Sequence[str], table: Table) -> Iterator[Write]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ExportRefused("Parquet needs the package pyarrow", "pip install 'census-sync[parquet]'") from None
    types = {
        ColumnType.TEXT: arrow.string(),
        ColumnType.INTEGER: arrow.int64(),
        ColumnType.REAL: arrow.float64(),
        ColumnType.BOOLEAN: arrow.bool_(),
        ColumnType.DATE: arrow.date32(),
        ColumnType.TIME: arrow.string(),
        ColumnType.TIMESTAMP: arrow.timestamp("us", tz="UTC"),
    }
    about = [
        arrow.field(name, arrow.int64() if name in _NUMBERS else arrow.string()) for name in key_columns(table.kind)
    ]
    schema = arrow.schema([*about, *(arrow.field(column.name, types[column.type]) for column in table.columns)])
    kinds = [*(None for _ in about), *(column.type for column in table.columns)]

    with parquet.ParquetWriter(file, schema) as writer:

        def write(rows: Sequence[Cells]) -> None:
            columns = [
                arrow.array([_parquet_cell(value, kind) for value in values], type=one.type)
                for values, kind, one in zip(zip(*rows, strict=True), kinds, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))

        yield write


_NUMBERS: Final = frozenset({"batch", "position", "parent_position"})


def _parquet_cell(value: Any, kind: ColumnType | None) -> Any:
    if value is not None and kind is ColumnType.DATE:
        return date.fromisoformat(value)
    return datetime.fromisoformat(value) if value is not None and kind is ColumnType.TIMESTAMP else value


_WRITERS: Final[dict[Format, Callable[[IO[bytes], Sequence[str], Table], AbstractContextManager[Write]]]] = {
    Format.CSV: _csv,
    Format.JSON_LINES: _json_lines,
    Format.PARQUET: _parquet,
}
