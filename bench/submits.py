"""Durable submits: through stepper and queue, and through the daemon's socket, beside the disk's own fdatasync."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench.center import BenchCenter
from bench.process_figures import precise_cpu_seconds
from bench.questionnaires import Questionnaires
from bench.rows import Aim, Judged, Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sealing import SteppedDevice, stubbed_device
from bench.sizes import Size
from bench.tablet import Tablet, submit_request
from edge_agent.queue.intake.local_protocol import LocalClient
from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import NO_ID, seal_envelope
from sync_protocol.identity import read_recipient_key
from sync_protocol.statement import RECIPIENT_KEY, parse_statement

_SUBMITS_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 0.65)
_IN_FLIGHT: Final = 32
_FDATASYNC: Final = "append the same bytes + fdatasync"


class Disk:
    """A file that grows by records, each durable before the next."""

    def __init__(self, folder: Path, record_bytes: int) -> None:
        self._descriptor = os.open(folder / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._record = os.urandom(record_bytes)

    def measure(self, count: int) -> Sample:
        """Append so many."""
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            os.write(self._descriptor, self._record)
            os.fdatasync(self._descriptor)
        return _sample(count, started, time.process_time() - cpu, "disk")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def measure_submits(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center:
        sealing, envelope_bytes = _sealing(center, folder, questionnaires.take(max(20, size.submits)))
        with closing(Disk(folder, envelope_bytes)) as disk:
            yield from _stepped(center, folder, size, questionnaires, disk)
            yield sealing
            yield from _through_the_socket(center, folder, size, questionnaires, disk)


def _sealing(center: BenchCenter, folder: Path, questionnaires: Sequence[Questionnaire]) -> tuple[Row, int]:
    """Return the row, and the mean size of an envelope."""
    device = center.enrol(folder / "sealer", "sealer").provisioned
    statements = map(parse_statement, device.statements)
    recipient = read_recipient_key(next(one for one in statements if one.kind == RECIPIENT_KEY))
    started = time.process_time()
    contents = [encode_content(metadata, body) for one in questionnaires for metadata, body in cut(one)]
    encoded = time.process_time()
    envelopes = [
        seal_envelope(
            content,
            recipient=recipient,
            signer=device.identity.signer,
            origin=device.identity.device,
            epoch=1,
            sequence=1,
            previous_id=NO_ID,
        )
        for content in contents
    ]
    sealed = time.process_time()
    count = len(questionnaires)
    parts = {"compress, pad": (encoded - started) / count * 1e6, "encrypt, sign": (sealed - encoded) / count * 1e6}
    row = Row("sealing one questionnaire", sum(parts.values()), "µs CPU", cpu_microseconds=parts)
    return row, sum(len(envelope.data) for envelope in envelopes) // len(envelopes)


def _stepped(
    center: BenchCenter, folder: Path, size: Size, questionnaires: Questionnaires, disk: Disk
) -> Iterator[Row]:
    real = center.enrol(folder / "stepped", "stepped").provisioned
    with (
        stubbed_device(folder / "stubbed-queue") as stubbed,
        SteppedDevice(folder / "sealing-queue", real.identity, real.statements) as sealing,
    ):
        taken = take_turns(
            {
                "disk": lambda: disk.measure(size.submits),
                "stubbed": lambda: _one_by_one(stubbed, questionnaires.take(size.submits)),
                "sealing": lambda: _one_by_one(sealing, questionnaires.take(size.submits)),
            },
            size.submit_rounds,
        )
    for name, what, aim in (
        ("stubbed", "durable submits, one by one, without the sealing cost", _SUBMITS_AIM),
        ("sealing", "durable submits, one by one, sealed", None),
    ):
        yield _row(what, taken[name], taken["disk"], aim)


def _one_by_one(device: SteppedDevice, questionnaires: Sequence[Questionnaire]) -> Sample:
    started, cpu = time.perf_counter(), time.process_time()
    for questionnaire in questionnaires:
        device.submit([questionnaire])
    return _sample(len(questionnaires), started, time.process_time() - cpu, "device")


def _through_the_socket(
    center: BenchCenter, folder: Path, size: Size, questionnaires: Questionnaires, disk: Disk
) -> Iterator[Row]:
    count = size.socket_submits
    # Nobody listens at the broker's port: this is about the form program's side.
    with Tablet(folder / "tablet", center.enrol(folder / "socket", "socket"), center.port) as tablet:
        tablet.start()
        with tablet.submit_socket() as client:
            taken = take_turns(
                {
                    "disk": lambda: disk.measure(count),
                    "one": lambda: _ask(client, tablet.pid, questionnaires.take(count), 1),
                    "many": lambda: _ask(client, tablet.pid, questionnaires.take(count), _IN_FLIGHT),
                },
                size.submit_rounds,
            )
    yield _row("submits through the daemon's socket, one waiting for each", taken["one"], taken["disk"], None)
    yield _row(f"submits through the daemon's socket, {_IN_FLIGHT} in flight", taken["many"], taken["disk"], None)


def _ask(client: LocalClient, pid: int, questionnaires: Sequence[Questionnaire], in_flight: int) -> Sample:
    before, started = precise_cpu_seconds(pid), time.perf_counter()
    waiting = 0
    for questionnaire in questionnaires:
        if waiting == in_flight:
            _check(client.receive())
            waiting -= 1
        client.send(submit_request(questionnaire), questionnaire.body)
        waiting += 1
    for _ in range(waiting):
        _check(client.receive())
    return _sample(len(questionnaires), started, lambda: precise_cpu_seconds(pid) - before, "daemon")


def _check(answer: dict[str, Any]) -> None:
    if not answer["ok"] or answer["repeated"]:
        raise RuntimeError(f"the daemon did not accept a questionnaire: {answer}")


def _sample(count: int, started: float, cpu_seconds: float | Callable[[], float], spender: str) -> Sample:
    wall = time.perf_counter() - started
    spent = cpu_seconds if isinstance(cpu_seconds, float) else cpu_seconds()
    return Sample(count / wall, {spender: spent / count * 1e6})


def _row(what: str, samples: Sequence[Sample], disk: Sequence[Sample], aim: Aim | None) -> Row:
    return Row(
        what,
        middle_rate(samples),
        "/s",
        peer=_FDATASYNC,
        peer_figure=middle_rate(disk),
        ratio=middle_ratio(samples, disk),
        aim=aim,
        cpu_microseconds=middle_cpu(samples),
    )
