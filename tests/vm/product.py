"""What is installed on a guest above Debian, as a squashfs: this working tree, laid out as `make install-venv` does."""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.support.shared_data import PROJECT_FOLDER

GUEST_PYTHON: Final = (3, 11)
PROGRAMS: Final = Path("opt/census-sync")
_PACKAGES: Final = ("sync_protocol", "operations", "edge_agent")
_GUEST: Final = Path(__file__).with_name("guest")
_PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")

_LAUNCHER: Final = """#!/opt/census-sync/bin/python
from edge_agent.commands import main

main()
"""


def build_product(image: Path, cache: Path) -> None:
    """Build the image; `cache` keeps the dependencies for the guest's Python from one time to the next."""
    tree = image.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    environment = tree / PROGRAMS
    site = environment / f"lib/python{GUEST_PYTHON[0]}.{GUEST_PYTHON[1]}/site-packages"
    shutil.copytree(_dependencies(cache), site, symlinks=True)
    for package in _PACKAGES:
        shutil.copytree(PROJECT_FOLDER / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
        _compile(site / package)
    _lay_out(tree, environment)
    _install_hand(tree)
    for path in (tree, *(folder for folder in tree.rglob("*") if folder.is_dir() and not folder.is_symlink())):
        path.chmod(0o755)
    image.unlink(missing_ok=True)
    words = ["mksquashfs", str(tree), str(image), "-comp", "lz4", "-all-root", "-noappend", "-quiet", "-no-progress"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


def _lay_out(tree: Path, environment: Path) -> None:
    (environment / "bin").mkdir()
    (environment / "bin/python").symlink_to("/usr/bin/python3")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    launcher = environment / "bin/edge-agent"
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)
    programs = tree / "usr/local/bin"
    programs.mkdir(parents=True)
    (programs / "edge-agent").symlink_to(f"/{PROGRAMS}/bin/edge-agent")
    places = {"DESTDIR": str(tree), "PREFIX": "/usr/local", "LIBDIR": "/usr/local/lib", "BINDIR": f"/{PROGRAMS}/bin"}
    subprocess.run([PROJECT_FOLDER / "scripts/install-files"], check=True, env={**os.environ, **places})


def _install_hand(tree: Path) -> None:
    units = tree / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    shutil.copy(_GUEST / "hand.service", units)
    (units / "multi-user.target.wants/hand.service").symlink_to("../hand.service")
    (tree / "usr/local/sbin").mkdir(parents=True)
    shutil.copy(_GUEST / "hand.py", tree / "usr/local/sbin")


def _dependencies(cache: Path) -> Path:
    """Return a folder with what the daemon depends on, for the guest's Python and not for the one that runs this."""
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["project"]
    wanted: list[str] = project["dependencies"]
    version = ".".join(map(str, GUEST_PYTHON))
    folder = cache / f"dependencies-{sha256(repr((wanted, _PLATFORMS, version)).encode()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(f".{os.getpid()}")
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    words += [f"--target={unfinished}", "--implementation=cp", f"--python-version={version}", *platforms, *wanted]
    subprocess.run(words, check=True)
    _compile(unfinished)
    unfinished.rename(folder)
    return folder


def _compile(folder: Path) -> None:
    """Compile for the guest, which takes ten times as long; another Python's work would be of no use to it."""
    if sys.version_info[:2] == GUEST_PYTHON:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(folder, quiet=2, invalidation_mode=mode, ddir=str(folder.name))
