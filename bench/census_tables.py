"""Questionnaires to rows of the census tables, beside a bare parse of their bytes and the rawest way to store rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import msgspec
import psycopg

from bench.census_forms import MISSING, HouseholdForm
from bench.databases import Database, Databases
from bench.form_endpoint import measure_endpoint
from bench.process_figures import cpu_seconds
from bench.questionnaires import Questionnaires
from bench.rows import Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sizes import Size
from central_broker.acceptance import decode_whole, read_answers
from central_broker.content_decoding import content_of
from central_broker.forms.tables import Table, TableKind
from central_broker.storage import open_storage
from central_broker.storage.batch_records import AcceptedEnvelope, Batch, QuestionnaireContent
from central_broker.storage.census_records import Answers
from central_broker.storage.census_tables import insertion, key_columns, quoted
from sync_protocol.content import MEDIA_TYPE_JSON, MEDIA_TYPE_XML
from tests.support.center import LinkChain

_BATCH_ENVELOPES: Final = 200
"""As `consumer.batch_envelopes_max` has it by default."""

TableRows = Mapping[str, tuple[Table, list[tuple[object, ...]]]]


def measure_forms(folder: Path, size: Size, _questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    if MISSING:
        yield Row(f"not measured: {MISSING}", 0, "")
        return
    folder.mkdir(parents=True)
    form = HouseholdForm(size.form_questionnaires)
    xml, json = ElementTree.fromstring, msgspec.json.decode
    yield _decoding("XForm XML", form, MEDIA_TYPE_XML, form.as_xml, "bare ElementTree parse", xml, size)
    yield _decoding("JSON", form, MEDIA_TYPE_JSON, form.as_json, "bare msgspec parse", json, size)
    with Databases(folder / "databases") as databases:
        for database in databases.both():
            yield _storing(database, form, size)
    yield from measure_endpoint(folder / "endpoint", size)


def _decoding(
    what: str,
    form: HouseholdForm,
    media_type: str,
    bodies: Sequence[bytes],
    peer: str,
    parse: Callable[[bytes], object],
    size: Size,
) -> Row:
    def read(body: bytes) -> object:
        return read_answers(form.form, form.version, content_of(media_type, body), form.registry)

    taken = take_turns(
        {"ours": lambda: _each(read, bodies, "ours"), "bare": lambda: _each(parse, bodies, "bare parse")}, size.rounds
    )
    return Row(
        f"{what}: content, and rows of the tables",
        middle_rate(taken["ours"]),
        "questionnaires/s",
        peer=peer,
        peer_figure=middle_rate(taken["bare"]),
        ratio=middle_ratio(taken["ours"], taken["bare"]),
        cpu_microseconds=middle_cpu(taken["ours"]) | middle_cpu(taken["bare"]),
        note=f"{sum(map(len, bodies)) / len(bodies):,.0f} bytes each",
    )


def _each(work: Callable[[bytes], object], bodies: Sequence[bytes], name: str) -> Sample:
    started, cpu = time.perf_counter(), time.process_time()
    for body in bodies:
        work(body)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    return Sample(len(bodies) / seconds, {name: spent / len(bodies) * 1e6})


def _storing(database: Database, form: HouseholdForm, size: Size) -> Row:
    envelopes = _accepted(form)
    rows = _table_rows(envelopes)
    count = sum(len(found) for _, found in rows.values())
    copying = "COPY" if database.server_pid else "executemany"
    taken = take_turns(
        {
            "ours": lambda: _measured(database, form, count, "consumer", lambda url: _commit(url, envelopes)),
            "raw": lambda: _measured(database, form, count, copying, lambda url: _store_raw(url, rows)),
        },
        size.rounds,
    )
    return Row(
        f"{database.name}: questionnaires committed with their rows",
        middle_rate(taken["ours"]),
        "rows/s",
        peer=f"{copying} of the same rows into the same tables, and nothing else",
        peer_figure=middle_rate(taken["raw"]),
        ratio=middle_ratio(taken["ours"], taken["raw"]),
        cpu_microseconds={
            name if name != "database" else f"database ({whose})": spent
            for whose, samples in taken.items()
            for name, spent in middle_cpu(samples).items()
        },
        note=f"{count / len(envelopes):.1f} rows a questionnaire, {_BATCH_ENVELOPES} questionnaires a transaction",
    )


def _accepted(form: HouseholdForm) -> list[AcceptedEnvelope]:
    """What acceptance makes of the XML; measured above."""
    chain = LinkChain("bench")
    envelopes = []
    for number, body in enumerate(form.as_xml):
        content = content_of(MEDIA_TYPE_XML, body)
        answers = read_answers(form.form, form.version, content, form.registry)
        questionnaire = QuestionnaireContent(
            form.form, form.version, f"uuid:{number:032x}", MEDIA_TYPE_XML, 1, body, content, answers
        )
        envelopes.append(replace(chain.accepted(), content=questionnaire))
    return envelopes


def _table_rows(envelopes: Sequence[AcceptedEnvelope]) -> TableRows:
    """The rows with the keys that they have in the tables."""
    rows: dict[str, tuple[Table, list[tuple[object, ...]]]] = {}
    for envelope in envelopes:
        content = envelope.content
        if not isinstance(content, QuestionnaireContent) or not isinstance(content.answers, Answers):
            raise TypeError("a questionnaire without answers")
        whole = (envelope.link.origin, envelope.link.id)
        for table, found in content.answers.rows:
            about = (1, content.form_version, content.instance_id, None)
            before = (*whole, *about) if table.kind is TableKind.QUESTIONNAIRE else whole
            rows.setdefault(table.name, (table, []))[1].extend((*before, *row) for row in found)
    return rows


def _measured(database: Database, form: HouseholdForm, rows: int, name: str, store: Callable[[str], None]) -> Sample:
    url = database.fresh()
    with closing(open_storage(url)) as storage:
        storage.store_form(form.record, form.tables)
    server = _server_seconds(database)
    started, cpu = time.perf_counter(), time.process_time()
    store(url)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    costs = {name: spent / rows * 1e6}
    if database.server_pid is not None:
        costs["database"] = (_server_seconds(database) - server) / rows * 1e6
    return Sample(rows / seconds, costs)


def _server_seconds(database: Database) -> float:
    return 0.0 if database.server_pid is None else cpu_seconds(database.server_pid, with_descendants=True)


def _commit(url: str, envelopes: Sequence[AcceptedEnvelope]) -> None:
    with closing(open_storage(url)) as storage:
        for first in range(0, len(envelopes), _BATCH_ENVELOPES):
            storage.commit(Batch(list(envelopes[first : first + _BATCH_ENVELOPES])), decode_whole, 10)


def _store_raw(url: str, rows: TableRows) -> None:
    """Store the rows in one durable transaction."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as lite:
            lite.execute("PRAGMA synchronous = FULL")
            with lite:
                for table, found in rows.values():
                    lite.executemany(insertion(table, postgresql=False), found)
        return
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for table, found in rows.values():
            names = [*key_columns(table.kind), *(column.name for column in table.columns)]
            target = f"{quoted(table.name)} ({', '.join(map(quoted, names))})"
            with cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
                _write_all(copy, found)


def _write_all(copy: Any, rows: Sequence[tuple[object, ...]]) -> None:
    for row in rows:
        copy.write_row(row)
