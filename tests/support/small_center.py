"""A whole center in a folder, whose keys are sealed at no cost: it is made in milliseconds instead of seconds.

What a sealed key costs to open stands in its file, so the real commands and services open these quickly, too. That
`central-broker init` makes the same, at full cost, is for test_center_walk_through and test_census_of_popstan.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from click.testing import CliRunner

from central_broker.center_files import CenterFiles, create_center
from central_broker.commands import main
from central_broker.configuration import Value, parse_configuration, sample_configuration
from central_broker.enrolment import Issuers
from central_broker.seed_protection import PassphraseSources
from demo.field import Center, CommandFailed
from tests.support.processes import free_port

PASSPHRASE: Final = "six words of a passphrase"
NOTHING: Final[Mapping[str, Value]] = MappingProxyType({})


def small_center(
    folder: Path, chosen: Mapping[str, Value] = NOTHING, *, passphrase: str = PASSPHRASE, now: int = 1
) -> CenterFiles:
    """Files of a new center in this folder; `chosen` values (by section.name) stand in its center.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    text = sample_configuration(folder, chosen)
    (folder / "center.toml").write_text(text)
    sources = PassphraseSources({}, known=passphrase.encode())
    files = CenterFiles(parse_configuration(text, folder), sources, scrypt_cost_log2=1)
    create_center(files, now)
    return files


def on_loopback(port: int, center_port: int) -> dict[str, Value]:
    """What `central-broker init --address 127.0.0.1` chooses, with these ports and this user's broker."""
    return {
        "broker.names": ("127.0.0.1",),
        "broker.listen_address": "127.0.0.1",
        "broker.port": port,
        "broker.center_port": center_port,
        "broker.user": getpass.getuser(),
        "consumer.group": "center-of-a-test",
    }


def issuers(files: CenterFiles) -> Issuers:
    return Issuers(files.issuing_key(), files.tls_issuing())


class SmallCenter(Center):
    """The demo's center, made small; its commands run in this process, its broker and services are real processes."""

    def __init__(self, folder: Path, *, database_url: str | None = None, chosen: Mapping[str, Value] = NOTHING) -> None:
        """Made, and not started."""
        self._chosen = chosen
        super().__init__(folder, database_url=database_url)

    def _make(self, database_url: str) -> None:
        ours: dict[str, Value] = {**on_loopback(self.port, free_port()), "database.url": database_url}
        passphrase = (self.folder / "passphrase").read_text().strip()
        small_center(self.folder, {**ours, **self._chosen}, passphrase=passphrase)

    def _run(self, *arguments: str | Path) -> str:
        words = list(map(str, arguments))
        with _umask_kept():
            ended = CliRunner().invoke(main, words, env=self._environment, prog_name="central-broker")
        if ended.exit_code:
            raise CommandFailed(f"{words} ended with {ended.exit_code}: {ended.output}") from ended.exception
        return ended.stdout


@contextmanager
def _umask_kept() -> Iterator[None]:
    """The center's commands set a umask, as processes of their own may."""
    before = os.umask(0o022)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)
