"""The one table of what may stand in center.toml; the checks and the sample file come from it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from central_broker.configuration_kinds import (
    ANY_PATH,
    DATABASE,
    DAY,
    LISTENING_ADDRESS,
    MOMENT,
    NAMES,
    OPTIONAL_ANY_PATH,
    WORD,
)
from operations.configuration import CHOICE, LOG_KEYS, LOG_PURPOSE, WHOLE_NUMBER, AtMost, Different, Key, Table, Value

CENTER_DEFAULT: Final = Path("/etc/census-center")
FILE_NAME: Final = "center.toml"

SECTIONS: Final[dict[str, str]] = {
    "database": "The census database.",
    "directories": "Where things are. A relative path starts at the folder of this file.",
    "secrets": "How the center's keys are kept.",
    "broker": "The MQTT broker (mosquitto) that tablets reach through the VPN.",
    "tls": 'Files of the center\'s own MQTT clients. "" stands for what `central-broker init` wrote.',
    "consumer": "How envelopes are taken from the broker into the database.",
    "receipts": "How receipts go out.",
    "census": "The rules of this census. What is outside of them is accepted, and marked (central-broker coverage).",
    "log": LOG_PURPOSE,
}

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "database",
        "url",
        DATABASE,
        "",
        'SQLite file or PostgreSQL. "" is the SQLite file census.sqlite3 in the state directory (for a center in '
        f"{CENTER_DEFAULT}: in its folder database, where the services may write); PostgreSQL is "
        "postgresql://USER@HOST/DATABASE, with its password in ~/.pgpass or by peer authentication, never here.",
    ),
    Key(
        "directories",
        "state",
        ANY_PATH,
        "state",
        "The authority's public records, certificates, the SQLite database.",
    ),
    Key(
        "directories",
        "secrets",
        ANY_PATH,
        "secrets",
        "Sealed keys, in one folder for each purpose: authority, consumer, receipts.",
    ),
    Key(
        "directories",
        "broker",
        ANY_PATH,
        "broker",
        "Where `central-broker broker` writes mosquitto's configuration and certificates.",
    ),
    Key(
        "directories",
        "backup",
        ANY_PATH,
        "backup",
        "Where `central-broker backup run` puts its copies. Another disk is better.",
    ),
    Key(
        "secrets",
        "protection",
        CHOICE,
        "passphrase",
        "passphrase: sealed with one. systemd-creds: sealed to this machine (its TPM where there is one).",
        choices=("passphrase", "systemd-creds"),
    ),
    Key(
        "secrets",
        "passphrase_file",
        OPTIONAL_ANY_PATH,
        "",
        'A 0600 file with the passphrase on line 1. "" asks at the terminal; a service takes it from '
        "LoadCredential=passphrase:FILE.",
    ),
    Key(
        "broker",
        "names",
        NAMES,
        ("127.0.0.1",),
        "IP addresses and DNS names by which tablets and the center's programs reach the broker; they go into its "
        "certificate. After a change: central-broker broker --new-certificate.",
    ),
    Key("broker", "listen_address", LISTENING_ADDRESS, "127.0.0.1", "Where tablets connect: the VPN's own address."),
    Key("broker", "port", WHOLE_NUMBER, 8883, "The port for tablets.", 1, 65535),
    Key(
        "broker",
        "center_address",
        LISTENING_ADDRESS,
        "127.0.0.1",
        "Where the center's consumers and publisher connect. They have a listener and a certificate authority of their "
        "own, because several consumers share one user name.",
    ),
    Key("broker", "center_port", WHOLE_NUMBER, 8884, "The port for the center's own clients.", 1, 65535),
    Key(
        "broker",
        "in_flight_max",
        WHOLE_NUMBER,
        64,
        "Messages on the way to one consumer, or from one tablet, without acknowledgement. At least "
        "what a consumer collects for one database transaction.",
        1,
        10_000,
    ),
    Key(
        "broker",
        "queue_messages_max",
        WHOLE_NUMBER,
        5_000,
        "Messages waiting for one client that is away or slow. What exceeds it is dropped, and sent again.",
        100,
        1_000_000,
    ),
    Key(
        "broker",
        "queue_bytes_max",
        WHOLE_NUMBER,
        256 * 1024 * 1024,
        "The same in bytes: what one absent consumer may cost the broker in memory.",
        1024 * 1024,
        1 << 36,
    ),
    Key("broker", "user", WORD, "mosquitto", "The system user that mosquitto runs as.", 1, 32),
    Key("tls", "authority", OPTIONAL_ANY_PATH, "", "The certificate by which the broker is checked (PEM)."),
    Key("tls", "consumer_certificate", OPTIONAL_ANY_PATH, "", "The consumer's certificate (PEM)."),
    Key("tls", "consumer_key", OPTIONAL_ANY_PATH, "", "The consumer's TLS key (PEM, mode 0600)."),
    Key("tls", "receipts_certificate", OPTIONAL_ANY_PATH, "", "The receipt publisher's certificate (PEM)."),
    Key("tls", "receipts_key", OPTIONAL_ANY_PATH, "", "The receipt publisher's TLS key (PEM, mode 0600)."),
    Key("consumer", "processes", WHOLE_NUMBER, 1, "How many consumers `central-broker consume` runs.", 1, 64),
    Key(
        "consumer",
        "group",
        WORD,
        "center",
        "Name of the shared subscription. `init` draws a random one: mosquitto lets every client join a group whose "
        "name it knows; a stranger would then draw off data (which he may not read, and which is sent again).",
        1,
        64,
    ),
    Key("consumer", "batch_envelopes_max", WHOLE_NUMBER, 200, "Envelopes in one database transaction.", 1, 10_000),
    Key("consumer", "batch_wait_milliseconds", WHOLE_NUMBER, 100, "How long to wait for a batch to fill.", 0, 10_000),
    Key(
        "receipts",
        "interval_milliseconds",
        WHOLE_NUMBER,
        1_000,
        "How often to look for receipts to send.",
        10,
        3_600_000,
    ),
    Key("receipts", "batch_origins_max", WHOLE_NUMBER, 64, "Receipts signed in one database transaction.", 1, 10_000),
    Key(
        "census",
        "critical_moment",
        MOMENT,
        "2021-09-01T00:00:00+06:00",
        "The moment that everybody is counted as of. Who was born after it is marked.",
    ),
    Key("census", "online_first", DAY, "2021-09-01", "The first day of answers online."),
    Key("census", "online_last", DAY, "2021-10-15", "The last day of answers online."),
    Key("census", "interview_first", DAY, "2021-10-01", "The first day of interviews, and of answers by proxy."),
    Key("census", "interview_last", DAY, "2021-10-30", "The last day of interviews, and of answers by proxy."),
    *LOG_KEYS,
)

_TABLE: Final = Table(
    heading=(
        "Configuration of the census center (TOML). A key that is commented out has the value shown.",
        "After a change: central-broker broker, and restart consumer, receipt publisher and mosquitto.",
    ),
    sample_place="a center.toml that `central-broker --center NEW-FOLDER init` writes",
    sections=SECTIONS,
    keys=KEYS,
    rules=(
        AtMost("census.online_first", "census.online_last"),
        AtMost("census.interview_first", "census.interview_last"),
        Different(
            "broker.port",
            "broker.center_port",
            "both listeners have this port",
            "give the tablets' and the center's listener different ports, such as 8883 and 8884",
        ),
    ),
)

_INSTALLED: Final[dict[str, Value]] = {
    "directories.state": "/var/lib/census-center",
    "directories.secrets": "/var/lib/census-center/secrets",
    "directories.broker": "/etc/mosquitto/census",
    "directories.backup": "/var/backups/census-center",
}


def table_of(center: Path) -> Table:
    """The table; its directories depend on whether the center is installed in /etc or in a folder of its own."""
    return _TABLE.with_defaults(_INSTALLED) if center == CENTER_DEFAULT else _TABLE
