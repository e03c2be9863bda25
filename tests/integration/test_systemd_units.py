"""The units as installed: systemd accepts them, the sandbox is tight, and every directive says why it is there."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from central_broker.configuration import parse_configuration
from central_broker.configuration_schema import CENTER_DEFAULT
from tests.support.shared_data import PROJECT_FOLDER

UNITS_FOLDER = PROJECT_FOLDER / "systemd"
EXAMPLES_FOLDER = PROJECT_FOLDER / "docs" / "examples"
SERVICES = [
    "edge-agent.service",
    "census-broker.service",
    "census-consumer.service",
    "census-receipts.service",
    "census-backup.service",
]
UNITS = [
    *SERVICES,
    "census-backup.timer",
    "census-broker-reload.path",
    "census-broker-reload.service",
    "census-center.target",
]
USER_UNITS = ["edge-agent-notify.service"]
# A polkit rule is a program, and says its reasons as programs do.
COMMENTED_FILES = sorted(path for path in UNITS_FOLDER.rglob("*") if path.is_file() and path.suffix != ".rules")
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
    expected |= {f"usr/lib/systemd/user/{name}" for name in USER_UNITS}
    expected |= {
        f"usr/lib/{kind}.d/census-{part}.conf" for kind in ("sysusers", "tmpfiles") for part in ("edge", "center")
    }
    expected |= {
        f"usr/share/doc/census-sync/{name}.md" for name in ("README", "installation", "operating", "usb-cable")
    }
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
@pytest.mark.parametrize("name", USER_UNITS)
def test_a_users_systemd_accepts_the_unit_without_a_word(installed: Path, tmp_path: Path, name: str) -> None:
    runtime_directory = tmp_path / "runtime"
    runtime_directory.mkdir(mode=0o700)
    words = ["systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no"]
    finished = subprocess.run(
        [*words, str(installed / "usr/lib/systemd/user" / name)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime_directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
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


def test_every_unit_is_tested_here() -> None:
    assert {path.name for path in UNITS_FOLDER.iterdir() if path.is_file()} == set(UNITS)
    assert {path.name for path in (UNITS_FOLDER / "user").iterdir()} == set(USER_UNITS)


@needs_analyze
@pytest.mark.parametrize("path", sorted(EXAMPLES_FOLDER.glob("*.conf")), ids=lambda path: path.name)
def test_systemd_accepts_the_example_as_a_drop_in_of_its_unit(installed: Path, path: Path) -> None:
    copies = re.findall(r"\b([a-z-]+\.service)\.d/", path.read_text())
    if not copies:
        pytest.skip("it is no drop-in")
    if "RestartSteps=" in path.read_text():
        pytest.skip("it says itself that it needs systemd 254")
    for name in copies:
        folder = _unit(installed, name).with_name(f"{name}.d")
        folder.mkdir()
        (folder / path.name).write_text(
            path.read_text().replace("/opt/census-sync/bin", str(installed.parent / "programs"))
        )
        finished = _run(
            "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", _unit(installed, name), check=False
        )
        assert finished.stderr + finished.stdout == ""


@needs_analyze
@pytest.mark.parametrize("path", sorted(EXAMPLES_FOLDER.glob("*.service")), ids=lambda path: path.name)
def test_systemd_accepts_the_example_of_a_unit(installed: Path, path: Path) -> None:
    programs = installed.parent / "programs"
    for script in EXAMPLES_FOLDER.glob("*.sh"):
        shutil.copy(script, programs)
        (programs / script.name).chmod(0o755)
    unit = installed / path.name
    unit.write_text(path.read_text().replace("/usr/local/sbin/", f"{programs}/"))
    finished = _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit, check=False)
    assert finished.stderr + finished.stdout == ""


@pytest.mark.skipif(shutil.which("desktop-file-validate") is None, reason="desktop-file-utils is not installed")
@pytest.mark.parametrize("path", sorted(EXAMPLES_FOLDER.glob("*.desktop")), ids=lambda path: path.name)
def test_desktops_accept_the_example(path: Path) -> None:
    assert _run("desktop-file-validate", path).stdout == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("path", sorted(EXAMPLES_FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_shell_examples_have_none_of_the_usual_mistakes(path: Path) -> None:
    assert _run("shellcheck", "--severity=style", path).stdout == ""


@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not installed")
def test_sudo_accepts_the_example_for_the_office() -> None:
    _run("visudo", "--check", "--quiet", f"--file={EXAMPLES_FOLDER / 'census-office.sudoers'}")


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
    center_users = {f"census-{name}" for name in ("consumer", "receipts", "backup", "office")}
    assert {"edge-agent", *center_users} <= users.keys()
    for group in ("census-submit", "census-operator"):
        assert groups[group][1] == "edge-agent"
    assert set(groups["census-center"][1].split(",")) == center_users

    for folder, user, group, mode in (
        ("var/lib/edge-agent/drop", "edge-agent", "census-submit", 0o3730),
        ("etc/census-center", "root", "census-center", 0o750),
        ("var/lib/census-center", "root", "census-center", 0o2750),
        ("var/lib/census-center/secrets", "root", "census-center", 0o710),
        ("var/lib/census-center/secrets/authority", "root", "root", 0o700),
        ("var/lib/census-center/secrets/consumer", "census-consumer", "census-center", 0o700),
        ("var/lib/census-center/secrets/receipts", "census-receipts", "census-center", 0o700),
        ("var/lib/census-center/database", "root", "census-center", 0o2770),
        ("var/lib/census-center/database/census.sqlite3", "root", "census-center", 0o660),
        ("var/backups/census-center", "census-backup", "census-center", 0o700),
    ):
        status = (installed / folder).stat()
        owner = (int({"root": "0", **users}[user]), int({"root": ["0"], **groups}[group][0]))
        assert (status.st_uid, status.st_gid) == owner, folder
        assert stat.S_IMODE(status.st_mode) == mode, folder
    # Were a unit's mode another than that of tmpfiles.d, systemd would change the folder at every start.
    for directive, folder in (
        ("StateDirectoryMode", "var/lib/edge-agent"),
        ("ConfigurationDirectoryMode", "etc/edge-agent"),
    ):
        found = re.search(rf"^{directive}=(\d+)$", _unit(installed, "edge-agent.service").read_text(), re.MULTILINE)
        assert found is not None
        assert stat.S_IMODE((installed / folder).stat().st_mode) == int(found[1], 8), folder


def test_the_services_users_can_reach_what_they_need_of_a_center_and_only_that(installed: Path) -> None:
    """The configuration's defaults and the units name the same places."""
    consumer = _unit(installed, "census-consumer.service").read_text()
    receipts = _unit(installed, "census-receipts.service").read_text()
    files = parse_configuration("", CENTER_DEFAULT)
    assert parse_configuration('[database]\nurl = ""', CENTER_DEFAULT).database == files.database
    assert files.database.url == f"sqlite:///{files.directories.state}/database/census.sqlite3"
    for unit, other in ((consumer, "receipts"), (receipts, "consumer")):
        assert f"ReadWritePaths=-{files.directories.state}/database\n" in unit
        secrets = files.directories.secrets
        assert f"InaccessiblePaths=-{secrets}/authority -{secrets}/{other} -{files.directories.backup}\n" in unit
    backup = _unit(installed, "census-backup.service").read_text()
    assert f"InaccessiblePaths=-{files.directories.secrets}\n" in backup
    broker = _unit(installed, "census-broker.service").read_text()
    assert f"ExecStart=/usr/sbin/mosquitto -c {files.directories.broker}/mosquitto.conf\n" in broker
