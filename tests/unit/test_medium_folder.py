"""The identity file on a stick that may be anybody's: written whole, and never anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from central_broker.medium_folder import MediumFolderError, identity_path, medium_at, write_identity_file
from sync_protocol.limits import MEDIUM_IDENTITY_BYTES_MAX
from tests.support import protocol_examples as examples

DATA = examples.medium_identity()


def test_identity_is_written_where_devices_look_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"somebody's")
    assert medium_at(tmp_path) is None
    path = write_identity_file(tmp_path, DATA)
    assert path == tmp_path / "CENSUS" / "MEDIUM.CNS"
    assert path.read_bytes() == DATA
    assert medium_at(tmp_path) == examples.MEDIUM
    found = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")}
    assert found == {"photo.jpg", "CENSUS", "CENSUS/MEDIUM.CNS"}


@pytest.mark.parametrize("content", [b"", b"noise", DATA[:40], bytes(MEDIUM_IDENTITY_BYTES_MAX + 1)])
def test_file_that_names_no_medium_may_be_overwritten(tmp_path: Path, content: bytes) -> None:
    write_identity_file(tmp_path, content)
    assert medium_at(tmp_path) is None
    write_identity_file(tmp_path, DATA)
    assert medium_at(tmp_path) == examples.MEDIUM


def test_links_on_a_stick_lead_nowhere(tmp_path: Path) -> None:
    elsewhere, stick = tmp_path / "etc", tmp_path / "stick"
    elsewhere.mkdir()
    stick.mkdir()
    (stick / "CENSUS").symlink_to(elsewhere)
    for act in (lambda: medium_at(stick), lambda: write_identity_file(stick, DATA)):
        with pytest.raises(MediumFolderError) as refusal:
            act()
        assert refusal.value.remedy
    assert list(elsewhere.iterdir()) == []
    (stick / "CENSUS").unlink()
    (stick / "CENSUS").mkdir()
    (elsewhere / "shadow").write_bytes(b"secret")
    identity_path(stick).symlink_to(elsewhere / "shadow")
    with pytest.raises(MediumFolderError):
        medium_at(stick)
    assert (elsewhere / "shadow").read_bytes() == b"secret"


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    identity_path(tmp_path).parent.mkdir()
    os.mkfifo(identity_path(tmp_path))
    with pytest.raises(MediumFolderError):
        medium_at(tmp_path)
    identity_path(tmp_path).unlink()
    identity_path(tmp_path).mkdir()
    with pytest.raises(MediumFolderError):
        medium_at(tmp_path)


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CENSUS").write_bytes(b"")
    with pytest.raises(MediumFolderError):
        write_identity_file(tmp_path, DATA)
