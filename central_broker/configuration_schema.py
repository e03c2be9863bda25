"""The one table of what may stand in center.toml; the checks and the sample file come from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

CENTER_DEFAULT: Final = Path("/etc/census-center")
FILE_NAME: Final = "center.toml"


class Kind(Enum):
    """What a value must be."""

    NUMBER = auto()
    TEXT = auto()
    CHOICE = auto()
    DIRECTORY = auto()
    FILE = auto()
    """A path, or "" for the place below the directories above."""
    DATABASE = auto()
    ADDRESS = auto()
    NAMES = auto()
    """IP addresses and DNS names."""


Value = int | str | tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """One key: its default, its range, and what a person needs to know of it. `installed` is the default in /etc."""

    section: str
    name: str
    kind: Kind
    default: Value
    help: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    installed: str = ""

    @property
    def path(self) -> str:
        """section.name, as errors name it."""
        return f"{self.section}.{self.name}"


SECTIONS: Final[dict[str, str]] = {
    "database": "The census database.",
    "directories": "Where things are. A relative path starts at the folder of this file.",
    "secrets": "How the center's keys are kept.",
    "broker": "The MQTT broker (mosquitto) that tablets reach through the VPN.",
    "tls": 'Files of the center\'s own MQTT clients. "" stands for what `central-broker init` wrote.',
    "consumer": "How envelopes are taken from the broker into the database.",
    "receipts": "How receipts go out.",
    "log": "What goes to the journal.",
}

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "database",
        "url",
        Kind.DATABASE,
        "",
        'SQLite file or PostgreSQL. "" is the SQLite file census.sqlite3 in the state directory (for a center in '
        f"{CENTER_DEFAULT}: in its folder database, where the services may write); PostgreSQL is "
        "postgresql://USER@HOST/DATABASE, with its password in ~/.pgpass or by peer authentication, never here.",
    ),
    Key(
        "directories",
        "state",
        Kind.DIRECTORY,
        "state",
        "The authority's public records, certificates, the SQLite database.",
        installed="/var/lib/census-center",
    ),
    Key(
        "directories",
        "secrets",
        Kind.DIRECTORY,
        "secrets",
        "Sealed keys, in one folder for each purpose: authority, consumer, receipts.",
        installed="/var/lib/census-center/secrets",
    ),
    Key(
        "directories",
        "broker",
        Kind.DIRECTORY,
        "broker",
        "Where `central-broker broker` writes mosquitto's configuration and certificates.",
        installed="/etc/mosquitto/census",
    ),
    Key(
        "directories",
        "backup",
        Kind.DIRECTORY,
        "backup",
        "Where `central-broker backup run` puts its copies. Another disk is better.",
        installed="/var/backups/census-center",
    ),
    Key(
        "secrets",
        "protection",
        Kind.CHOICE,
        "passphrase",
        "passphrase: sealed with one. systemd-creds: sealed to this machine (its TPM where there is one).",
        choices=("passphrase", "systemd-creds"),
    ),
    Key(
        "secrets",
        "passphrase_file",
        Kind.FILE,
        "",
        'A 0600 file with the passphrase on line 1. "" asks at the terminal; a service takes it from '
        "LoadCredential=passphrase:FILE.",
    ),
    Key(
        "broker",
        "names",
        Kind.NAMES,
        ("127.0.0.1",),
        "IP addresses and DNS names by which tablets and the center's programs reach the broker; they go into its "
        "certificate. After a change: central-broker broker --new-certificate.",
    ),
    Key("broker", "listen_address", Kind.ADDRESS, "127.0.0.1", "Where tablets connect: the VPN's own address."),
    Key("broker", "port", Kind.NUMBER, 8883, "The port for tablets.", 1, 65535),
    Key(
        "broker",
        "center_address",
        Kind.ADDRESS,
        "127.0.0.1",
        "Where the center's consumers and publisher connect. They have a listener and a certificate authority of their "
        "own, because several consumers share one user name.",
    ),
    Key("broker", "center_port", Kind.NUMBER, 8884, "The port for the center's own clients.", 1, 65535),
    Key(
        "broker",
        "in_flight_max",
        Kind.NUMBER,
        64,
        "Messages on the way to one consumer, or from one tablet, without acknowledgement. At least "
        "what a consumer collects for one database transaction.",
        1,
        10_000,
    ),
    Key(
        "broker",
        "queue_messages_max",
        Kind.NUMBER,
        5_000,
        "Messages waiting for one client that is away or slow. What exceeds it is dropped, and sent again.",
        100,
        1_000_000,
    ),
    Key(
        "broker",
        "queue_bytes_max",
        Kind.NUMBER,
        256 * 1024 * 1024,
        "The same in bytes: what one absent consumer may cost the broker in memory.",
        1024 * 1024,
        1 << 36,
    ),
    Key("broker", "user", Kind.TEXT, "mosquitto", "The system user that mosquitto runs as.", 1, 32),
    Key("tls", "authority", Kind.FILE, "", "The certificate by which the broker is checked (PEM)."),
    Key("tls", "consumer_certificate", Kind.FILE, "", "The consumer's certificate (PEM)."),
    Key("tls", "consumer_key", Kind.FILE, "", "The consumer's TLS key (PEM, mode 0600)."),
    Key("tls", "receipts_certificate", Kind.FILE, "", "The receipt publisher's certificate (PEM)."),
    Key("tls", "receipts_key", Kind.FILE, "", "The receipt publisher's TLS key (PEM, mode 0600)."),
    Key("consumer", "processes", Kind.NUMBER, 1, "How many consumers `central-broker consume` runs.", 1, 64),
    Key(
        "consumer",
        "group",
        Kind.TEXT,
        "center",
        "Name of the shared subscription. `init` draws a random one: mosquitto lets every client join a group whose "
        "name it knows; a stranger would then draw off data (which he may not read, and which is sent again).",
        1,
        64,
    ),
    Key("consumer", "batch_envelopes_max", Kind.NUMBER, 200, "Envelopes in one database transaction.", 1, 10_000),
    Key("consumer", "batch_wait_milliseconds", Kind.NUMBER, 100, "How long to wait for a batch to fill.", 0, 10_000),
    Key(
        "receipts",
        "interval_milliseconds",
        Kind.NUMBER,
        1_000,
        "How often to look for receipts to send.",
        10,
        3_600_000,
    ),
    Key("receipts", "batch_origins_max", Kind.NUMBER, 64, "Receipts signed in one database transaction.", 1, 10_000),
    Key("log", "level", Kind.CHOICE, "info", "How much to say.", choices=("debug", "info", "warning", "error")),
    Key(
        "log",
        "style",
        Kind.CHOICE,
        "auto",
        "auto: journal fields under systemd, readable text elsewhere.",
        choices=("auto", "journal", "text", "json"),
    ),
)
