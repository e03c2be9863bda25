"""The center's configuration: one file center.toml, read whole, with every mistake reported at once."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from central_broker.configuration_check import Mistake, check_text, default_of
from central_broker.configuration_schema import CENTER_DEFAULT, FILE_NAME, KEYS, SECTIONS, Key, Kind, Value


@dataclass(frozen=True)
class DatabaseConfiguration:
    """The census database, as `open_storage` takes it."""

    url: str


@dataclass(frozen=True)
class DirectoriesConfiguration:
    """Absolute paths."""

    state: Path
    secrets: Path
    broker: Path
    backup: Path


@dataclass(frozen=True)
class SecretsConfiguration:
    """How the center's keys are kept; no file: a terminal is asked."""

    protection: Literal["passphrase", "systemd-creds"]
    passphrase_file: Path | None


@dataclass(frozen=True)
class BrokerConfiguration:
    """mosquitto's two listeners and its limits."""

    names: tuple[str, ...]
    listen_address: str
    port: int
    center_address: str
    center_port: int
    in_flight_max: int
    queue_messages_max: int
    queue_bytes_max: int
    user: str


@dataclass(frozen=True)
class TlsConfiguration:
    """PEM files of the center's own MQTT clients."""

    authority: Path
    consumer_certificate: Path
    consumer_key: Path
    receipts_certificate: Path
    receipts_key: Path


@dataclass(frozen=True)
class ConsumerConfiguration:
    """How envelopes are taken in."""

    processes: int
    group: str
    batch_envelopes_max: int
    batch_wait_milliseconds: int


@dataclass(frozen=True)
class ReceiptsConfiguration:
    """How receipts go out."""

    interval_milliseconds: int
    batch_origins_max: int


@dataclass(frozen=True)
class LogConfiguration:
    """What `operations.journal.configure_logging` is given."""

    level: Literal["debug", "info", "warning", "error"]
    style: Literal["auto", "journal", "text", "json"]


@dataclass(frozen=True)
class Configuration:
    """The whole file, checked, defaults filled in. `center` is its folder."""

    center: Path
    database: DatabaseConfiguration
    directories: DirectoriesConfiguration
    secrets: SecretsConfiguration
    broker: BrokerConfiguration
    tls: TlsConfiguration
    consumer: ConsumerConfiguration
    receipts: ReceiptsConfiguration
    log: LogConfiguration


class ConfigurationError(Exception):
    """The file cannot be used. `mistakes` are all that were found, in the order of their lines; never empty."""

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.path = path
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {mistake}" for mistake in mistakes)]))


def load_configuration(center: Path) -> Configuration:
    """Read and check center.toml of this folder; raises ConfigurationError, also when it cannot be read."""
    path = center / FILE_NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        remedy = "run `central-broker init` first, or name the center's folder with --center or $CENSUS_CENTER"
        raise ConfigurationError(path, (Mistake(None, None, "there is no such file", remedy),)) from None
    except OSError as error:
        mistake = Mistake(None, None, f"the file cannot be read: {error.strerror}", "check the path and its owner")
        raise ConfigurationError(path, (mistake,)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        mistake = Mistake(line, None, "the file is not UTF-8 text", "save it as UTF-8")
        raise ConfigurationError(path, (mistake,)) from None
    return parse_configuration(text, center)


def parse_configuration(text: str, center: Path) -> Configuration:
    """The same for a text."""
    center = center.absolute()
    values, mistakes = check_text(text, center)
    if mistakes:
        raise ConfigurationError(center / FILE_NAME, mistakes)
    _fill_in(values, center)
    return Configuration(
        center=center,
        database=_section(DatabaseConfiguration, values["database"]),
        directories=_section(DirectoriesConfiguration, values["directories"]),
        secrets=_section(SecretsConfiguration, values["secrets"]),
        broker=_section(BrokerConfiguration, values["broker"]),
        tls=_section(TlsConfiguration, values["tls"]),
        consumer=_section(ConsumerConfiguration, values["consumer"]),
        receipts=_section(ReceiptsConfiguration, values["receipts"]),
        log=_section(LogConfiguration, values["log"]),
    )


def _fill_in(values: dict[str, dict[str, object]], center: Path) -> None:
    """Give what was left "" its place below the directories."""
    directories = cast("dict[str, Path]", values["directories"])
    state, secrets = directories["state"], directories["secrets"]
    # Installed, the services' users may write to the database's folder, and not where the authority's records are.
    place = state / "database" if center == CENTER_DEFAULT else state
    values["database"]["url"] = values["database"]["url"] or f"sqlite:///{place / 'census.sqlite3'}"
    places = {
        "authority": state / "tls" / "root.pem",
        "consumer_certificate": state / "tls" / "consumer.pem",
        "consumer_key": secrets / "consumer" / "tls.key",
        "receipts_certificate": state / "tls" / "receipts.pem",
        "receipts_key": secrets / "receipts" / "tls.key",
    }
    for name, place in places.items():
        values["tls"][name] = values["tls"][name] or place


_SectionType = TypeVar("_SectionType")


def _section(section: type[_SectionType], values: dict[str, object]) -> _SectionType:
    # The table's kinds have made each value what the dataclass says; a test holds the two together.
    return cast(Any, section)(**values)  # type: ignore[no-any-return]  # built from the table, see above


def sample_configuration(center: Path, chosen: Mapping[str, Value] | None = None) -> str:
    """A commented file that loads as it stands: `chosen` values (by section.name) are set, the others shown."""
    given = chosen or {}
    lines = [
        "# Configuration of the census center (TOML). A key that is commented out has the value shown.",
        "# After a change: central-broker broker, and restart consumer, receipt publisher and mosquitto.",
    ]
    for section, purpose in SECTIONS.items():
        lines += ["", f"# {purpose}", f"[{section}]"]
        for key in (key for key in KEYS if key.section == section):
            lines += ["", *_sample_key(key, center, given.get(key.path))]
    return "\n".join(lines) + "\n"


def _sample_key(key: Key, center: Path, chosen: Value | None) -> list[str]:
    text = key.help
    if key.kind is Kind.CHOICE:
        text += f" One of: {', '.join(key.choices)}."
    elif key.kind is Kind.NUMBER:
        text += f" From {key.minimum} to {key.maximum}."
    lines = [f"# {line}" for line in textwrap.wrap(text, 100, break_on_hyphens=False)]
    shown = default_of(key, center) if chosen is None else chosen
    return [*lines, f"{'#' if chosen is None else ''}{key.name} = {_toml(shown)}"]


def _toml(value: Value) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
