"""The edge daemon's configuration: one TOML file, read whole, with every mistake reported at once."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

from edge_agent.configuration_check import Mistake, check_document
from edge_agent.configuration_schema import DEFAULT_PATH, KEYS, SECTIONS, Key, Kind, Required

COMMENT_COLUMNS: Final = 100


@dataclass(frozen=True)
class DeviceConfiguration:
    """Where the device keeps its identity and its queue."""

    provisioning_directory: Path
    state_directory: Path
    runtime_directory: Path
    operator_group: str


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


@dataclass(frozen=True)
class SyncConfiguration:
    """How the backlog goes out and how long receipts are waited for."""

    bundles_in_flight_max: int
    bundle_bytes_max: int
    receipt_wait_seconds: int
    receipt_silence_alarm_seconds: int


@dataclass(frozen=True)
class StorageConfiguration:
    """Free space below which a submission is refused."""

    free_bytes_min: int


@dataclass(frozen=True)
class LogConfiguration:
    """What `operations.journal.configure_logging` is given."""

    level: Literal["debug", "info", "warning", "error"]
    style: Literal["auto", "journal", "text", "json"]


@dataclass(frozen=True)
class Configuration:
    """The whole file, checked; defaults filled in."""

    device: DeviceConfiguration
    broker: BrokerConfiguration
    vpn: VpnConfiguration
    intake: IntakeConfiguration
    sync: SyncConfiguration
    storage: StorageConfiguration
    log: LogConfiguration


class ConfigurationError(Exception):
    """The file cannot be used. `mistakes` are all that were found, in the order of the file; never empty."""

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.path = path
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {mistake}" for mistake in mistakes)]))


def load_configuration(path: Path = DEFAULT_PATH) -> Configuration:
    """Reads and checks the file. Raises ConfigurationError with every mistake in it, also when it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(path, (_unreadable(path, error),)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"the file is not UTF-8 text: byte 0x{error.object[error.start]:02x}"
        raise ConfigurationError(path, (Mistake(line, None, problem, "save the file as UTF-8"),)) from error
    return parse_configuration(text, path)


def parse_configuration(text: str, path: Path = DEFAULT_PATH) -> Configuration:
    """The same for a text; `path` is only what errors name."""
    values, mistakes = check_document(text)
    if mistakes:
        raise ConfigurationError(path, mistakes)
    return Configuration(
        device=_section(DeviceConfiguration, values["device"]),
        broker=_section(BrokerConfiguration, values["broker"]),
        vpn=_section(VpnConfiguration, values["vpn"]),
        intake=_section(IntakeConfiguration, values["intake"]),
        sync=_section(SyncConfiguration, values["sync"]),
        storage=_section(StorageConfiguration, values["storage"]),
        log=_section(LogConfiguration, values["log"]),
    )


_SectionType = TypeVar("_SectionType")


def _section(section: type[_SectionType], values: dict[str, object]) -> _SectionType:
    # The table's kinds have made each value what the dataclass says; a test holds the two together.
    return cast(Any, section)(**values)  # type: ignore[no-any-return]  # built from the table, see above


def _unreadable(path: Path, error: OSError) -> Mistake:
    if isinstance(error, FileNotFoundError):
        remedy = f"write one: `edge-agent sample-configuration > {path}`, then set broker.address in it"
        return Mistake(None, None, "there is no such file", remedy)
    if isinstance(error, PermissionError):
        return Mistake(None, None, "this user may not read the file", "run as the daemon's user or as root")
    return Mistake(None, None, f"the file cannot be read: {error.strerror}", "check the path and the disk")


def sample_configuration() -> str:
    """A commented file that loads as it stands: every key with its help; defaults are commented out."""
    lines = [
        "# Configuration of the edge daemon (TOML). A key that is commented out has the value shown.",
        "# After a change: edge-agent doctor, then systemctl restart edge-agent.",
    ]
    for section, purpose in SECTIONS.items():
        lines += ["", f"# {purpose}", f"[{section}]"]
        for key in KEYS:
            if key.section == section:
                lines += ["", *_sample_key(key)]
    return "\n".join(lines) + "\n"


def _sample_key(key: Key) -> list[str]:
    text = key.help
    if key.kind is Kind.CHOICE:
        text += f" One of: {', '.join(key.choices)}."
    elif key.kind is Kind.WHOLE_NUMBER:
        text += f" From {key.minimum} to {key.maximum}."
    if key.example and not isinstance(key.default, Required):
        text += f" Example: {key.example}"
    lines = [f"# {line}" for line in textwrap.wrap(text, COMMENT_COLUMNS, break_on_hyphens=False)]
    if isinstance(key.default, Required):
        return [*lines, f"{key.name} = {key.example}  # must be set"]
    return [*lines, f"#{key.name} = {_toml(key.default)}"]


def _toml(value: int | str | tuple[str, ...]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
