"""The edge daemon's configuration: one TOML file, read whole, with every mistake reported at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.configuration_check import check_document
from edge_agent.configuration_schema import DEFAULT_PATH, TABLE
from operations.configuration import (
    ConfigurationError,
    LogConfiguration,
    Mistake,
    read_configuration_text,
    sample_text,
)

__all__ = [
    "DEFAULT_PATH",
    "BrokerConfiguration",
    "Configuration",
    "ConfigurationError",
    "DeviceConfiguration",
    "IntakeConfiguration",
    "LogConfiguration",
    "MeshConfiguration",
    "Mistake",
    "OnlineConfiguration",
    "StorageConfiguration",
    "SyncConfiguration",
    "UsbConfiguration",
    "VpnConfiguration",
    "load_configuration",
    "parse_configuration",
    "sample_configuration",
]


@dataclass(frozen=True)
class DeviceConfiguration:
    """Where the device keeps its identity and its queue."""

    provisioning_directory: Path
    state_directory: Path
    runtime_directory: Path
    operator_group: str
    counted_lists: bool


@dataclass(frozen=True)
class BrokerConfiguration:
    """The broker's address (an IP literal, normalised) and the connection's times."""

    address: str
    port: int
    keepalive_seconds: int
    session_expiry_seconds: int
    connect_timeout_seconds: int
    backoff_seconds_min: int
    backoff_seconds_max: int


@dataclass(frozen=True)
class VpnConfiguration:
    """Patterns (fnmatch) of the interfaces that count as the VPN."""

    interfaces: tuple[str, ...]


@dataclass(frozen=True)
class IntakeConfiguration:
    """How form programs hand over questionnaires. An empty form id or no directory means: not used."""

    drop_directory: Path | None
    default_form: str
    submit_socket_group: str
    questionnaire_bytes_max: int
    openrosa: bool
    openrosa_port: int
    openrosa_origins: tuple[str, ...]


@dataclass(frozen=True)
class SyncConfiguration:
    """How the backlog goes out and how long receipts are waited for."""

    bundles_in_flight_max: int
    bundle_bytes_max: int
    receipt_wait_seconds: int
    receipt_silence_alarm_seconds: int


@dataclass(frozen=True)
class MeshConfiguration:
    """When and where neighbours are talked with, and how much is kept for others (in MB of 1,048,576 bytes).

    `configuration_kinds.peer_address` takes the texts of `static_peers` apart.
    """

    duty: Literal["off", "always", "mains", "interval"]
    interval_minutes: int
    port: int
    excluded_interfaces: tuple[str, ...]
    discovery: bool
    static_peers: tuple[str, ...]
    foreign_megabytes_max: int


@dataclass(frozen=True)
class UsbConfiguration:
    """How media are mounted, how long receipts are waited for with one in place, and how people are told."""

    mounting: Literal["auto", "udisks", "system", "off"]
    receipt_wait_seconds: int
    language: Literal["en", "ru", "kk"]
    hook: Path | None
    notify_group: str
    led: str | None


@dataclass(frozen=True)
class OnlineConfiguration:
    """How the census web site hands in. Without TLS files the address is a loopback one."""

    enabled: bool
    listen_address: str
    port: int
    tls_certificate: Path | None
    tls_key: Path | None
    tokens_file: Path
    connections_max: int


@dataclass(frozen=True)
class StorageConfiguration:
    """Free space below which a submission is refused."""

    free_bytes_min: int


@dataclass(frozen=True)
class Configuration:
    """The whole file, checked; defaults filled in."""

    device: DeviceConfiguration
    broker: BrokerConfiguration
    vpn: VpnConfiguration
    intake: IntakeConfiguration
    sync: SyncConfiguration
    mesh: MeshConfiguration
    usb: UsbConfiguration
    online: OnlineConfiguration
    storage: StorageConfiguration
    log: LogConfiguration


def load_configuration(path: Path = DEFAULT_PATH) -> Configuration:
    """Reads and checks the file. Raises ConfigurationError with every mistake in it, also when it cannot be read."""
    remedy = f"write one: `edge-agent sample-configuration > {path}`, then set broker.address in it"
    return parse_configuration(read_configuration_text(path, absent_remedy=remedy), path)


def parse_configuration(text: str, path: Path = DEFAULT_PATH) -> Configuration:
    """The same for a text; `path` is only what errors name."""
    values, mistakes = check_document(text)
    if mistakes:
        raise ConfigurationError(path, mistakes)
    # The table's kinds have made each value what the dataclass says; a test holds the two together.
    return Configuration(
        device=DeviceConfiguration(**values["device"]),
        broker=BrokerConfiguration(**values["broker"]),
        vpn=VpnConfiguration(**values["vpn"]),
        intake=IntakeConfiguration(**values["intake"]),
        sync=SyncConfiguration(**values["sync"]),
        mesh=MeshConfiguration(**values["mesh"]),
        usb=UsbConfiguration(**values["usb"]),
        online=OnlineConfiguration(**values["online"]),
        storage=StorageConfiguration(**values["storage"]),
        log=LogConfiguration(**values["log"]),
    )


def sample_configuration() -> str:
    """A commented file that loads as it stands: every key with its help; defaults are commented out."""
    return sample_text(TABLE)
