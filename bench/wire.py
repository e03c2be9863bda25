"""Bytes on the wire: what one questionnaire costs a tablet's link, both ways, beside what it weighs itself.

Counted are TCP's payload bytes between the daemon and the broker, which is all of TLS and MQTT, by a relay between
them; the connection's own beginning (handshake, subscriptions, first receipts) is told apart.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.center import BenchCenter
from bench.questionnaires import Questionnaires
from bench.rows import Row
from bench.sizes import Size
from bench.tablet import Tablet, start_center_process, submit
from demo.processes import wait_until
from demo.tcp_relay import LinkCounters, TcpRelay
from sync_protocol.content import Questionnaire
from sync_protocol.dictionary import CURRENT
from sync_protocol.envelope import HEADER_BYTES
from sync_protocol.keys import SEALING_OVERHEAD_BYTES, SIGNATURE_BYTES

SEALING_BYTES: Final = HEADER_BYTES + SEALING_OVERHEAD_BYTES + SIGNATURE_BYTES
_WAIT_SECONDS: Final = 60.0
_SETTLED_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Passed:
    up: int
    down: int


def measure_wire(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center, ExitStack() as ends:
        device = center.enrol(folder / "provisioning", "tablet")
        url = f"sqlite:///{folder / 'census.sqlite3'}"
        center.prepare_database(url, [device])
        center.start_broker()
        for role in ("consumer", "receipts"):
            ends.enter_context(start_center_process(role, center, url, folder))
        relay = ends.enter_context(TcpRelay(("127.0.0.1", center.port)))
        tablet = ends.enter_context(Tablet(folder / "tablet", device, relay.port))
        tablet.start()
        tablet.wait_until_connected()
        connection = _settled(relay, LinkCounters(0, 0, 0))
        one_by_one = questionnaires.take(size.wire_questionnaires)
        trickle = _trickle(tablet, relay, one_by_one)
        relay.cut()
        backlog_questionnaires = questionnaires.take(size.wire_backlog)
        submit(tablet, backlog_questionnaires)
        before = relay.counters
        relay.heal()
        wait_until(lambda: tablet.waiting() == 0, "the backlog is receipted", timeout_seconds=_WAIT_SECONDS)
        backlog = _settled(relay, before)
    yield from _rows(one_by_one, trickle, backlog_questionnaires, backlog, connection)


def _trickle(tablet: Tablet, relay: TcpRelay, questionnaires: Sequence[Questionnaire]) -> _Passed:
    before = relay.counters
    for questionnaire in questionnaires:
        submit(tablet, [questionnaire])
        wait_until(lambda: tablet.waiting() == 0, "the questionnaire is receipted", timeout_seconds=_WAIT_SECONDS)
    return _settled(relay, before)


def _settled(relay: TcpRelay, before: LinkCounters) -> _Passed:
    """What has passed since, once nothing passes any more."""
    seen = relay.counters
    while True:
        time.sleep(_SETTLED_SECONDS)
        if relay.counters == seen:
            return _Passed(
                seen.bytes_to_target - before.bytes_to_target, seen.bytes_from_target - before.bytes_from_target
            )
        seen = relay.counters


def _deflated(body: bytes) -> int:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=CURRENT)
    return len(compressor.compress(body) + compressor.flush())


def _rows(
    one_by_one: Sequence[Questionnaire],
    trickle: _Passed,
    together: Sequence[Questionnaire],
    backlog: _Passed,
    connection: _Passed,
) -> Iterator[Row]:
    for what, questionnaires, passed in (
        ("one at a time, receipt awaited", one_by_one, trickle),
        (f"backlog of {len(together)}, its own connection included", together, backlog),
    ):
        count = len(questionnaires)
        raw = sum(len(one.body) for one in questionnaires) / count
        deflated = sum(_deflated(one.body) for one in questionnaires) / count
        yield Row(
            f"a questionnaire on the wire, {what}",
            (passed.up + passed.down) / count,
            "bytes",
            peer=f"its {deflated:.0f} bytes deflated + {SEALING_BYTES} of sealing",
            peer_figure=deflated + SEALING_BYTES,
            ratio=(passed.up + passed.down) / count / (deflated + SEALING_BYTES),
            note=f"{passed.up / count:.0f} up, {passed.down / count:.0f} down; raw {raw:.0f}",
        )
    yield Row(
        "making a connection",
        connection.up + connection.down,
        "bytes",
        note=f"{connection.up} up, {connection.down} down",
    )
