"""Accepted means durable, also for a process that is killed at any moment."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from sync_protocol.content import decode_content
from sync_protocol.envelope import NO_ID, parse_envelope
from tests.support.device import Authority, Device

KILLS = 30
PROJECT = Path(__file__).resolve().parents[2]


def test_whatever_was_acknowledged_is_there_after_thirty_kills_and_the_chain_has_no_gap(tmp_path: Path) -> None:
    randomness = random.Random(20261001)
    acknowledged: dict[int, tuple[int, int, int]] = {}
    following = 1
    for _ in range(KILLS):
        lines = run_and_kill(
            tmp_path, following, after_lines=randomness.randrange(1, 12), delay=randomness.random() / 50
        )
        for line in lines:
            number, *place = (int(word) for word in line.split())
            acknowledged[number] = (place[0], place[1], place[2])
        # The last one may have been recorded without being acknowledged; it is asked for again under its key.
        following = max(acknowledged, default=0) + 1
    assert len(acknowledged) >= KILLS
    check_queue(tmp_path, acknowledged)


def run_and_kill(folder: Path, first: int, *, after_lines: int, delay: float) -> list[str]:
    """Let a process accept, kill it some time after a number of lines, and return every complete line."""
    command = [sys.executable, "-m", "tests.support.accepting_process", str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        guard = threading.Timer(60, process.kill)
        guard.start()
        lines = [process.stdout.readline() for _ in range(after_lines)]
        time.sleep(delay)
        process.kill()
        lines += process.stdout.readlines()
        guard.cancel()
    return [line for line in lines if line.endswith("\n")]


def check_queue(folder: Path, acknowledged: dict[int, tuple[int, int, int]]) -> None:
    device = Device(folder, Authority()).start()
    rows = device.rows("epoch, sequence, id, data")
    device.stop()
    assert [sequence for _, sequence, _, _ in rows] == list(range(1, len(rows) + 1))
    assert {epoch for epoch, _, _, _ in rows} == {1}, "a killed process is no reason for another epoch"
    previous = NO_ID
    found: dict[int, list[int]] = {}
    for _, sequence, envelope_id, data in rows:
        assert isinstance(data, bytes) and isinstance(sequence, int) and isinstance(envelope_id, bytes)
        envelope = parse_envelope(data)
        assert envelope.previous_id == previous and envelope.id == envelope_id
        previous = envelope_id
        metadata, _ = decode_content(envelope.open(Authority().center))
        found.setdefault(int(metadata.instance_id.removeprefix("uuid:")), []).append(sequence)
    for number, (_, first, last) in acknowledged.items():
        assert found[number] == list(range(first, last + 1))
