"""The center's configuration: one file center.toml, read whole, with every mistake reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from central_broker.configuration_schema import CENTER_DEFAULT, FILE_NAME, table_of
from central_broker.coverage.rules import CensusRules, Window
from operations.configuration import (
    ConfigurationError,
    LogConfiguration,
    Mistake,
    Value,
    check_document,
    read_configuration_text,
    sample_text,
)

__all__ = [
    "BrokerConfiguration",
    "CensusConfiguration",
    "Configuration",
    "ConfigurationError",
    "ConsumerConfiguration",
    "DatabaseConfiguration",
    "DirectoriesConfiguration",
    "LogConfiguration",
    "Mistake",
    "ReceiptsConfiguration",
    "SecretsConfiguration",
    "TlsConfiguration",
    "Value",
    "load_configuration",
    "parse_configuration",
    "sample_configuration",
]


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
class CensusConfiguration:
    """The rules of the census; days are the first and last of a window."""

    critical_moment: datetime
    online_first: date
    online_last: date
    interview_first: date
    interview_last: date

    @property
    def rules(self) -> CensusRules:
        """Return them as coverage takes them."""
        return CensusRules(
            self.critical_moment,
            online=Window(self.online_first, self.online_last),
            interview=Window(self.interview_first, self.interview_last),
        )


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
    census: CensusConfiguration
    log: LogConfiguration


def load_configuration(center: Path) -> Configuration:
    """Read and check center.toml of this folder; raises ConfigurationError, also when it cannot be read."""
    remedy = "run `central-broker init` first, or name the center's folder with --center or $CENSUS_CENTER"
    return parse_configuration(read_configuration_text(center / FILE_NAME, absent_remedy=remedy), center)


def parse_configuration(text: str, center: Path) -> Configuration:
    """The same for a text."""
    center = center.absolute()
    values, mistakes = check_document(text, table_of(center))
    if mistakes:
        raise ConfigurationError(center / FILE_NAME, mistakes)
    _fill_in(values, center)
    # The table's kinds have made each value what the dataclass says; a test holds the two together.
    return Configuration(
        center=center,
        database=DatabaseConfiguration(**values["database"]),
        directories=DirectoriesConfiguration(**values["directories"]),
        secrets=SecretsConfiguration(**values["secrets"]),
        broker=BrokerConfiguration(**values["broker"]),
        tls=TlsConfiguration(**values["tls"]),
        consumer=ConsumerConfiguration(**values["consumer"]),
        receipts=ReceiptsConfiguration(**values["receipts"]),
        census=CensusConfiguration(**values["census"]),
        log=LogConfiguration(**values["log"]),
    )


def _fill_in(values: dict[str, dict[str, Any]], center: Path) -> None:
    """Put relative paths below the center's folder, and what was left "" in its place below the directories."""
    for section in values.values():
        section.update({name: center / value for name, value in section.items() if isinstance(value, Path)})
    state, secrets = values["directories"]["state"], values["directories"]["secrets"]
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


def sample_configuration(center: Path, chosen: Mapping[str, Value] | None = None) -> str:
    """A commented file that loads as it stands: `chosen` values (by section.name) are set, the others shown."""
    return sample_text(table_of(center), chosen)
