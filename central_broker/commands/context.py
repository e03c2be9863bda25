"""What every command starts from: the center it is about, its clock, its database, and how faults are told."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from central_broker.center_files import CenterFiles, CenterFilesError
from central_broker.configuration import Configuration, ConfigurationError, load_configuration
from central_broker.configuration_schema import FILE_NAME
from central_broker.seed_protection import PassphraseSources, SecretError
from central_broker.storage import open_storage
from central_broker.storage.contract import Storage, StorageRefused, StorageUnavailable
from central_broker.storage.inquiry_records import DeviceRecord, MediumRecord
from operations.console import EXIT_USAGE, fail
from sync_protocol.identity import Standing

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document for programs.")


class EveryFault(click.Group):
    """A group of commands where every expected fault ends as one sentence and its remedy, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SecretError, CenterFilesError) as error:
            fail(error.problem, error.remedy)
        except ConfigurationError as error:
            fail(str(error), f"correct {error.path} and try again")
        except StorageUnavailable as error:
            fail(f"the census database cannot be asked: {error}", "check that it runs and that the disk is not full")
        except StorageRefused as error:
            fail(str(error), "nothing was changed; see the command's --help")
        except PermissionError as error:
            fail(f"{error.filename} may not be opened by this user", "run as the center's user or as root")
        except OSError as error:
            fail(f"{error.filename or 'a file'}: {error.strerror}", "check the path and the disk's free space")


@dataclass(frozen=True)
class CenterContext:
    """One invocation: the center's folder and where a passphrase may come from."""

    center: Path
    passphrase_file: Path | None
    environment: Mapping[str, str]

    def configuration(self) -> Configuration:
        """The center's configuration; raises ConfigurationError."""
        return load_configuration(self.center)

    def files(self, configuration: Configuration | None = None) -> CenterFiles:
        """The center's files; no secret is opened yet."""
        known = configuration or self.configuration()
        return CenterFiles(known, self.sources(known.secrets.passphrase_file))

    def sources(self, configured: Path | None, *, confirm: bool = False) -> PassphraseSources:
        """Option, then environment, then the configured file, then the terminal when there is one."""

        def ask() -> str:
            typed: str = click.prompt(
                "Passphrase of the center's keys", hide_input=True, confirmation_prompt=confirm, err=True
            )
            return typed

        given = self.passphrase_file
        if given is None and not self.environment.get("CENSUS_PASSPHRASE_FILE"):
            credentials = self.environment.get("CREDENTIALS_DIRECTORY")
            given = None if credentials and (Path(credentials) / "passphrase").exists() else configured
        terminal = sys.stdin.isatty()
        return PassphraseSources(self.environment, file=given, prompt=ask if terminal else None)

    @contextmanager
    def storage(self) -> Iterator[Storage]:
        """The census database, open for this command."""
        storage = open_storage(self.configuration().database.url)
        try:
            yield storage
        finally:
            storage.close()

    @property
    def file(self) -> Path:
        """Where center.toml is."""
        return self.center / FILE_NAME


pass_center = click.make_pass_decorator(CenterContext)


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def find_device(storage: Storage, text: str) -> DeviceRecord:
    """The device of this id, this beginning of an id (at least 4 digits) or this name; fails unless it is one."""
    devices = {device.device: device for device in storage.devices()}
    return devices[_find(text, [(d.device, d.name, d.standing) for d in devices.values()], "device", "devices list")]


def find_medium(storage: Storage, text: str) -> MediumRecord:
    """The medium of this id, this beginning of an id (at least 4 digits) or this number; fails unless it is one."""
    media = {medium.medium: medium for medium in storage.media()}
    return media[_find(text, [(m.medium, m.number, m.standing) for m in media.values()], "medium", "media list")]


def _find(text: str, known: Sequence[tuple[bytes, str, Standing]], what: str, listing: str) -> bytes:
    """Return the id of the one that is meant, of those with this label the only active one if need be."""
    exact = [one for one, _, _ in known if one.hex() == text.lower()]
    labelled = [one for one, label, _ in known if label == text]
    active = [one for one, label, standing in known if label == text and standing is Standing.ACTIVE]
    beginning = [one for one, _, _ in known if len(text) >= 4 and one.hex().startswith(text.lower())]
    for found in (exact, active, labelled, beginning):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.hex() for one in found[:5])
            fail(f"{text!r} is more than one {what}: {ids}", "give the whole id", exit_status=EXIT_USAGE)
    return fail(f"no {what} {text!r} is known", f"central-broker {listing} shows them all", exit_status=EXIT_USAGE)
