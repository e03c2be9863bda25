"""The device's own chain: accepted is durable, gapless, and no sequence is given twice."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.engine.effects import Refused
from edge_agent.queue.mirror import MIRROR_FILE_NAME
from sync_protocol.content import decode_content
from sync_protocol.envelope import NO_ID, parse_envelope
from sync_protocol.limits import PART_BYTES_MAX
from tests.support.device import Authority, Device, questionnaire


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path / "queue", Authority()).start()
    yield one
    one.stop()


def chain_of(device: Device) -> list[tuple[int, int]]:
    """Return (epoch, sequence) of every own envelope, after checking that each names the one before."""
    previous: dict[int, bytes] = {}
    places = []
    for epoch, sequence, envelope_id, data in device.rows("epoch, sequence, id, data"):
        assert isinstance(data, bytes) and isinstance(envelope_id, bytes)
        assert isinstance(epoch, int) and isinstance(sequence, int)
        envelope = parse_envelope(data)
        assert (envelope.epoch, envelope.sequence, envelope.id) == (epoch, sequence, envelope_id)
        assert envelope.previous_id == previous.get(epoch, NO_ID)
        previous[epoch] = envelope_id
        places.append((epoch, sequence))
    return places


def test_the_chain_goes_on_without_a_gap_across_restarts(device: Device) -> None:
    for number in range(6):
        device.submit(str(number))
        if number % 2:
            device.restart()
    assert chain_of(device) == [(1, number) for number in range(1, 7)]


def test_the_parts_of_a_large_questionnaire_are_consecutive_and_join_to_the_same_bytes(device: Device) -> None:
    body = b'{"photo":"' + random.Random(1).randbytes(PART_BYTES_MAX * 2).hex().encode() + b'"}'
    device.submit("before")
    answers = device.submit_all(("large", questionnaire(body, "uuid:large")), ("after", questionnaire()))
    assert [(one.first_sequence, one.last_sequence) for one in answers if not isinstance(one, Refused)] == [
        (2, 6),
        (7, 7),
    ]
    assert chain_of(device) == [(1, number) for number in range(1, 8)]
    parts = []
    for (data,) in device.rows("data", "own = 1 AND sequence BETWEEN 2 AND 6"):
        assert isinstance(data, bytes)
        parts.append(decode_content(parse_envelope(data).open(device.authority.center)))
    assert b"".join(part for _, part in parts) == body
    assert [metadata.part for metadata, _ in parts] == [1, 2, 3, 4, 5]


def test_the_same_key_again_is_answered_with_the_same_place_and_adds_nothing(device: Device) -> None:
    first = device.submit("a")
    device.restart()
    again = device.submit("a")
    assert (again.epoch, again.first_sequence, again.last_sequence) == (1, 1, 1)
    assert again.repeated and not first.repeated
    assert chain_of(device) == [(1, 1)]


def test_the_same_key_twice_in_one_commit_is_one_envelope(device: Device) -> None:
    device.submit_all(("a", questionnaire()), ("a", questionnaire()))
    assert chain_of(device) == [(1, 1)]


def test_other_bytes_with_the_same_instance_id_are_another_envelope(device: Device) -> None:
    device.submit_all(("a", questionnaire(b'{"age":1}')), ("b", questionnaire(b'{"age":2}')))
    assert chain_of(device) == [(1, 1), (1, 2)]


def test_what_breaks_a_limit_is_refused_and_leaves_no_trace_among_what_is_accepted(device: Device) -> None:
    answers = device.submit_all(("a", questionnaire(instance_id="x" * 300)), ("b", questionnaire()))
    assert isinstance(answers[0], Refused) and not answers[0].again and "instance_id" in answers[0].problem
    assert chain_of(device) == [(1, 1)]


def test_without_a_key_of_the_center_nothing_is_accepted_and_the_same_may_come_again(tmp_path: Path) -> None:
    authority = Authority()
    authority.statements.pop()
    device = Device(tmp_path / "queue", authority).start()
    (answer,) = device.submit_all(("a", questionnaire()))
    device.stop()
    assert isinstance(answer, Refused) and answer.again and "enrol" in answer.remedy


def test_a_queue_older_than_its_mirror_begins_the_next_epoch(device: Device) -> None:
    device.submit("a")
    device.stop()
    older = {path.name: path.read_bytes() for path in device.directory.iterdir() if path.name.startswith("queue.db")}
    device.start().submit("b")
    device.tick()
    device.stop()
    for path in device.directory.glob("queue.db*"):
        path.unlink()
    for name, data in older.items():
        (device.directory / name).write_bytes(data)
    device.start().submit("c")
    assert chain_of(device) == [(1, 1), (2, 1)]
    assert [notice.fields["epoch"] for notice in device.notices("epoch_started")] == [2]


def test_a_lost_queue_beside_its_mirror_begins_the_next_epoch(device: Device) -> None:
    device.submit("a")
    device.stop()
    for path in device.directory.glob("queue.db*"):
        path.unlink()
    device.start().submit("b")
    assert chain_of(device) == [(2, 1)]


def test_a_lost_mirror_changes_nothing(device: Device) -> None:
    device.submit("a")
    device.stop()
    (device.directory / MIRROR_FILE_NAME).unlink()
    device.start().submit("b")
    assert chain_of(device) == [(1, 1), (1, 2)]


def test_a_mirror_behind_its_queue_changes_nothing(device: Device) -> None:
    device.submit("a")
    behind = (device.directory / MIRROR_FILE_NAME).read_bytes()
    device.submit("b")
    device.stop()
    (device.directory / MIRROR_FILE_NAME).write_bytes(behind)
    device.start().submit("c")
    assert chain_of(device) == [(1, 1), (1, 2), (1, 3)]


def test_a_mirror_of_the_same_length_but_another_envelope_begins_the_next_epoch(device: Device, tmp_path: Path) -> None:
    other = Device(tmp_path / "other", device.authority).start()
    other.submit("x")
    other.stop()
    device.submit("a")
    device.stop()
    (device.directory / MIRROR_FILE_NAME).write_bytes((other.directory / MIRROR_FILE_NAME).read_bytes())
    device.start().submit("b")
    assert chain_of(device) == [(1, 1), (2, 1)]
