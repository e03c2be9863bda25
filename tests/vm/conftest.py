"""Fixtures of scenarios in virtual machines, the checks that each ends with, and the table at the end."""

from __future__ import annotations

import os
import platform
import shutil
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.shared_data import PROJECT_FOLDER
from tests.vm.fleet import FOREIGN, Fleet
from tests.vm.paper import enrolled
from tests.vm.stick import FIRST_SECTOR, Content, Layout, Stick, make_stick
from tests.vm.tablet import Tablet

IMAGE_VARIABLE: Final = "CENSUS_VM_IMAGE"
FLEET_VARIABLE: Final = "CENSUS_VM_FLEET"
_PROGRAMS: Final = (
    *("qemu-system-x86_64", "qemu-img", "setpriv", "mksquashfs", "mcopy", "sfdisk"),
    *("mkfs.vfat", "mkfs.exfat", "mkfs.ext4", "debugfs"),
)


def _image_folder() -> Path:
    return Path(os.environ.get(IMAGE_VARIABLE, PROJECT_FOLDER / "build" / "vm")).resolve()


def _why_not() -> str | None:
    missing = [name for name in _PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if missing:
        return f"{', '.join(missing)} not installed: run make test-vm"
    if platform.machine() != "x86_64":
        return "the guests are x86-64, and emulating them on another kind of machine was never tried"
    if not (_image_folder() / "stamp").exists():
        return f"there is no image in {_image_folder()}: as root, run scripts/vm-image"
    return None


@dataclass
class Scene:
    """One scenario: its folder, the machines that run in it, and sticks."""

    folder: Path
    fleet: Fleet
    exits: ExitStack
    tablets: list[Tablet] = field(default_factory=list)

    def wake(self, name: str = "tablet 17") -> Tablet:
        """Wake one of the fleet up; it goes on until the scenario is over."""
        place = self.folder / f"machine-{len(self.tablets)}"
        tablet = self.exits.enter_context(self.fleet.awake(name, place))
        self.tablets.append(tablet)
        return tablet

    def stick(
        self,
        file_system: str = "vfat",
        name: str = "red",
        *,
        layout: Layout = Layout.MBR,
        first_sector: int = FIRST_SECTOR,
        content: Content | None = None,
    ) -> Stick:
        """Make an enrolled stick with files of somebody's on it; exFAT comes in one layout only."""
        if file_system == "exfat":
            return self.fleet.exfat_stick(name, self.folder)
        whole = {**FOREIGN, **enrolled("0017"), **(content or {})}
        return make_stick(self.folder, name, file_system, layout=layout, content=whole, first_sector=first_sector)


_made_here = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the frozen machines, for all test processes: those of pytest-xdist inherit its name."""
    if FLEET_VARIABLE not in os.environ and _why_not() is None:
        for left in _image_folder().glob("fleet-*"):
            # A run that was killed could not take its own away.
            if not Path("/proc", left.name.removeprefix("fleet-")).exists():
                shutil.rmtree(left)
        made = config.stash[_made_here] = _image_folder() / f"fleet-{os.getpid()}"
        os.environ[FLEET_VARIABLE] = str(made)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Frozen machines are of no use to the next run, which tests another product, and they are large."""
    made = config.stash.get(_made_here, None)
    if made is not None:
        del os.environ[FLEET_VARIABLE]
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The machines to start from, made when they are first needed."""
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    return Fleet(Path(os.environ[FLEET_VARIABLE]), _image_folder())


@pytest.fixture
def scene(fleet: Fleet, tmp_path: Path) -> Iterator[Scene]:
    """A scenario; what runs in it is switched off in the end."""
    with ExitStack() as exits:
        yield Scene(tmp_path, fleet, exits)
    # Disks of machines that nobody looks at any more; logs and sticks stay, as pytest keeps them.
    for disk in tmp_path.rglob("state.qcow2"):
        disk.unlink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Whatever a scenario is about: in the end the daemon runs, and nothing is left mounted."""
    scene = getattr(item, "funcargs", {}).get("scene")
    if not isinstance(scene, Scene):
        return (yield)
    try:
        yield
        for tablet in scene.tablets:
            tablet.assert_in_order()
    except BaseException:
        for number, tablet in enumerate(scene.tablets):
            item.add_report_section("call", f"journal of machine {number}", _journal(tablet))
        raise
    finally:
        told = [sentence for tablet in scene.tablets for sentence in tablet.told.values()]
        item.user_properties.append(("told", "; ".join(dict.fromkeys(told))))
    return None


def _journal(tablet: Tablet) -> str:
    try:
        return tablet.journal()
    except Exception as error:
        return f"not to be had: {error}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show each scenario, how long it took, and what whoever held the stick was told."""
    seconds: dict[str, float] = defaultdict(float)
    told: dict[str, str] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            seconds[report.nodeid] += report.duration
            told[report.nodeid] = str(dict(report.user_properties).get("told") or "–")
    if not seconds:
        return
    terminalreporter.section("scenarios in virtual machines")
    for name, duration in sorted(seconds.items()):
        scenario = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        terminalreporter.write_line(f"{duration:6.1f} s  {scenario}\n          {told[name]}")
    terminalreporter.write_line(f"{sum(seconds.values()):6.1f} s  {len(seconds)} scenarios, one after the other")
