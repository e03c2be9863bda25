"""The units as installed: systemd accepts them, the sandbox is tight, and every directive says why it is there."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.shared_data import PROJECT_FOLDER

UNITS_FOLDER = PROJECT_FOLDER / "systemd"
SERVICES = ["edge-agent.service", "census-consumer@.service", "census-receipts.service"]
UNITS = [*SERVICES, "census-center.target"]
COMMENTED_FILES = sorted(path for path in UNITS_FOLDER.rglob("*") if path.suffix in {".service", ".target", ".conf"})
EXPOSURE_MAX = 2.0

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def _run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
        cwd=PROJECT_FOLDER,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root folder with what `make install-files` puts there, and programs that ExecStart can name."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("edge-agent", "central-broker"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    root = tmp_path / "root"
    words = ["make", "--silent", "install-files", f"DESTDIR={root}", "PREFIX=/usr", f"BINDIR={programs}"]
    # Words of a make that runs these tests must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(words, cwd=PROJECT_FOLDER, env=environment, check=True, timeout=60)
    return root


def _unit(installed: Path, name: str) -> Path:
    return installed / "usr/lib/systemd/system" / name


def test_installing_puts_every_file_where_systemd_looks_and_leaves_no_placeholder(installed: Path) -> None:
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    expected = {f"usr/lib/systemd/system/{name}" for name in UNITS}
    expected |= {
        f"usr/lib/{kind}.d/census-{part}.conf" for kind in ("sysusers", "tmpfiles") for part in ("edge", "center")
    }
    expected |= {"usr/share/doc/census-sync/README.md", "usr/share/doc/census-sync/installation.md"}
    assert expected <= files
    assert any(name.startswith("usr/share/doc/census-sync/examples/") for name in files)
    for name in files:
        path = installed / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, name
        assert "@BINDIR@" not in path.read_text(), name
        assert "@DOCDIR@" not in path.read_text(), name
    execution = re.findall(r"^ExecStart=(\S+)/\S+", _unit(installed, "edge-agent.service").read_text(), re.MULTILINE)
    assert execution == [str(installed.parent / "programs")]


@needs_analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_without_a_word(installed: Path, name: str) -> None:
    finished = _run(
        "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", _unit(installed, name), check=False
    )
    assert finished.stderr + finished.stdout == ""
    assert finished.returncode == 0


@needs_analyze
def test_systemd_would_have_complained_of_an_unknown_directive(installed: Path) -> None:
    unit = _unit(installed, "edge-agent.service")
    unit.write_text(unit.read_text().replace("[Service]\n", "[Service]\nNoSuchDirective=yes\n"))
    finished = _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit, check=False)
    assert "NoSuchDirective" in finished.stderr


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_the_exposure_of_the_service_is_low(installed: Path, name: str) -> None:
    finished = _run("systemd-analyze", "security", "--offline=yes", "--no-pager", _unit(installed, name))
    figure = re.search(r"Overall exposure level for .*: ([0-9.]+) ", finished.stdout)
    assert figure is not None, finished.stdout + finished.stderr
    assert float(figure[1]) <= EXPOSURE_MAX, finished.stdout


@pytest.mark.parametrize("path", COMMENTED_FILES, ids=lambda path: path.name)
def test_every_directive_has_its_reason_above_it(path: Path) -> None:
    explained = False
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif not line or line.startswith("["):
            explained = False
        else:
            assert explained, f"{path.name}: no reason above {line}"


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="making users and their folders needs root")
@pytest.mark.root
def test_users_groups_and_folders_are_made_as_the_units_expect_them(installed: Path) -> None:
    (installed / "etc").mkdir()
    for kind in ("sysusers", "tmpfiles"):
        create = ["--create"] if kind == "tmpfiles" else []
        _run(f"systemd-{kind}", f"--root={installed}", *create)
    users = dict(line.split(":")[0:3:2] for line in (installed / "etc/passwd").read_text().splitlines())
    groups = {line.split(":")[0]: line.split(":")[2:] for line in (installed / "etc/group").read_text().splitlines()}
    assert {"edge-agent", "census"} <= users.keys()
    for group in ("census-submit", "census-operator"):
        assert groups[group][1] == "edge-agent"

    drop = (installed / "var/lib/edge-agent/drop").stat()
    assert (drop.st_uid, drop.st_gid) == (int(users["edge-agent"]), int(groups["census-submit"][0]))
    assert stat.S_IMODE(drop.st_mode) == 0o3730
    for service, directive, folder in (
        ("edge-agent.service", "StateDirectoryMode", "var/lib/edge-agent"),
        ("edge-agent.service", "ConfigurationDirectoryMode", "etc/edge-agent"),
        ("census-receipts.service", "StateDirectoryMode", "var/lib/census"),
        ("census-receipts.service", "ConfigurationDirectoryMode", "etc/census"),
    ):
        mode = re.search(rf"^{directive}=(\d+)$", _unit(installed, service).read_text(), re.MULTILINE)
        assert mode is not None
        assert stat.S_IMODE((installed / folder).stat().st_mode) == int(mode[1], 8), folder
