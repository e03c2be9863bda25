"""Records as journald, a terminal and programs get them."""

import array
import io
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from operations.journal import Style, configure_logging, get_logger
from operations.journald import Delivery, JournalSocket, encode_record, field_name, is_journal_stream
from operations.structlog_without_rich import structlog

SENTENCES = {"committed": "envelope {sequence} of {origin} is in the census database"}


class FakeJournald:
    """Reads the native protocol, also from a sealed memory file, and decodes it independently of the encoder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)

    def record(self) -> dict[str, str]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for level, kind, payload in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            descriptors = array.array("i", payload)
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                data = file.read()
        fields = {}
        while data:
            line, _, rest = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack_from("<Q", rest)
                value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
            fields[name.decode()] = value.decode()
            data = rest
        return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    fake = FakeJournald(tmp_path / "socket")
    yield fake
    fake.socket.close()


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(style: Style, journal_path: Path | None = None) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(
        "edge-agent", style=style, sentences=SENTENCES, stream=stream, journal_path=str(journal_path or "/nowhere")
    )
    return stream


def test_a_record_reaches_journald_with_its_sentence_and_its_fields(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    committed_at = datetime(2026, 10, 3, 14, 5, 9, tzinfo=UTC)
    get_logger().info("committed", sequence=3, origin=b"\x00\xff", at=committed_at)
    assert journald.record() == {
        "MESSAGE": "envelope 3 of 00ff is in the census database (at=2026-10-03T14:05:09Z)",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "edge-agent",
        "CENSUS_EVENT": "committed",
        "CENSUS_SEQUENCE": "3",
        "CENSUS_ORIGIN": "00ff",
        "CENSUS_AT": "2026-10-03T14:05:09Z",
    }


def test_line_ends_in_a_field_survive_and_cannot_forge_a_field(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    get_logger().warning("refused", reason="two\nlines\nPRIORITY=0", note="нет")
    record = journald.record()
    assert record["CENSUS_REASON"] == "two\nlines\nPRIORITY=0"
    assert record["CENSUS_NOTE"] == "нет"
    assert record["PRIORITY"] == "4"
    assert "\n" not in record["MESSAGE"]


def test_a_record_too_large_for_a_datagram_goes_as_a_memory_file(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    get_logger().error("large", **{f"text{number}": "x" * 90_000 for number in range(10)})
    record = journald.record()
    assert all(record[f"CENSUS_TEXT{number}"] == "x" * 90_000 for number in range(10))
    assert record["MESSAGE"].endswith("more characters cut]")


def test_a_field_beyond_all_measure_is_cut_with_a_mark(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    get_logger().error("large", text="x" * 5_000_000)
    assert journald.record()["CENSUS_TEXT"].endswith("x… [4900000 more characters cut]")


def test_levels_become_priorities_and_lower_ones_are_left_out(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    log = get_logger()
    log.debug("quiet")
    for level in ("info", "warning", "error", "critical"):
        getattr(log, level)("loud")
    assert [journald.record()["PRIORITY"] for _ in range(4)] == ["6", "4", "3", "2"]


def test_an_exception_brings_its_frames_but_never_the_values_of_variables(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    secret_answer = "answer-of-a-respondent"
    try:
        del secret_answer
        raise OSError("disk is gone")
    except OSError:
        held = "answer-of-" + "another"
        get_logger().exception("failed")
        assert held
    record = journald.record()
    assert record["PRIORITY"] == "3"
    assert "disk is gone" in record["CENSUS_TRACEBACK"]
    assert "answer-of-another" not in str(record)


def test_libraries_that_use_the_standard_logging_are_heard_at_warning(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    logging.getLogger("mqtt").info("quiet")
    logging.getLogger("mqtt").warning("odd %s", "packet")
    record = journald.record()
    assert (record["CENSUS_EVENT"], record["CENSUS_LIBRARY"], record["CENSUS_TEXT"]) == (
        "library",
        "mqtt",
        "odd packet",
    )


def test_without_journald_records_go_to_the_stream_and_come_back_when_it_does(tmp_path: Path) -> None:
    stream = configured("journal", tmp_path / "socket")
    get_logger().info("committed", sequence=1, origin="a")
    assert "envelope 1 of a" in stream.getvalue()
    started = FakeJournald(tmp_path / "socket")
    get_logger().info("committed", sequence=2, origin="a")
    assert started.record()["CENSUS_SEQUENCE"] == "2"
    started.socket.close()
    get_logger().info("committed", sequence=3, origin="a")
    assert "envelope 3 of a" in stream.getvalue()
    (tmp_path / "socket").unlink()
    again = FakeJournald(tmp_path / "socket")
    get_logger().info("committed", sequence=4, origin="a")
    assert again.record()["CENSUS_SEQUENCE"] == "4"
    again.socket.close()


def test_a_journald_that_does_not_read_holds_nobody_and_the_loss_is_counted(journald: FakeJournald) -> None:
    configured("journal", journald.path)
    journal = JournalSocket(str(journald.path))
    waiting = 0
    while journal.send({"MESSAGE": "x"}) is Delivery.SENT:
        waiting += 1
        assert waiting < 100_000
    journal.close()
    get_logger().info("lost")
    get_logger().info("lost")
    for _ in range(waiting):
        journald.record()
    get_logger().info("after")
    assert journald.record()["CENSUS_EVENT"] == "after"
    told = journald.record()
    assert (told["CENSUS_EVENT"], told["CENSUS_COUNT"]) == ("log_records_dropped", "2")


def test_text_has_the_event_its_sentence_and_no_colours_or_control_characters_in_a_file() -> None:
    stream = configured("text")
    get_logger().info("committed", sequence=3, origin="\x1b[31mred", route="vpn")
    line = stream.getvalue()
    assert "committed: envelope 3 of \\x1b[31mred is in the census database" in line
    assert "route=vpn" in line
    assert "\x1b" not in line


def test_json_is_one_object_a_line() -> None:
    stream = configured("json")
    get_logger().bind(origin=b"\x01").info("committed", sequence=3, note="a\nb")
    record = json.loads(stream.getvalue())
    assert (record["event"], record["level"], record["identifier"]) == ("committed", "info", "edge-agent")
    assert record["fields"] == {"origin": "01", "sequence": 3, "note": "a\nb"}


def test_a_sentence_without_its_field_is_still_written_and_a_wrong_template_is_refused() -> None:
    stream = configured("text")
    get_logger().info("committed", sequence=3)
    assert "envelope 3 of ?" in stream.getvalue()
    with pytest.raises(ValueError, match="'bad'"):
        configure_logging("edge-agent", sentences={"bad": "{x.__class__}"}, stream=io.StringIO())


def test_a_closed_stream_never_breaks_the_caller() -> None:
    stream = configured("text")
    stream.close()
    get_logger().error("said to nobody")


def test_auto_is_the_journal_only_when_stderr_is_the_journals_own_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journald: FakeJournald
) -> None:
    path = tmp_path / "stderr"
    with path.open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging("edge-agent", stream=stream, journal_path=str(journald.path))
        get_logger().info("native")
        assert journald.record()["CENSUS_EVENT"] == "native"
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        configure_logging("edge-agent", stream=stream, journal_path=str(journald.path))
        get_logger().info("redirected")
    assert "redirected" in path.read_text()
    for wrong in (None, "", "1", "a:b", ":", "1:2:3"):
        assert not is_journal_stream(wrong, 2)


def test_field_names_become_what_journald_accepts() -> None:
    assert field_name("CENSUS_a-b.c") == "CENSUS_A_B_C"
    assert field_name("CENSUS_größe").isascii()
    assert len(field_name("x" * 100)) == 64
    assert encode_record({"A": "1", "B": "x\ny"}) == b"A=1\nB\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n"


def test_the_daemons_logging_does_not_bring_rich_into_the_process() -> None:
    program = "import operations.journal, operations.notify, operations.console, sys; sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
    program = "import operations.journal, rich.table"  # and a command can still import it afterwards
    subprocess.run([sys.executable, "-c", program], check=True)
