"""The one table of what may stand in the configuration file; the checks, the help and the sample come from it."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

DEFAULT_PATH: Final = Path("/etc/edge-agent/edge-agent.toml")
DAY_SECONDS: Final = 24 * 60 * 60


class Kind(Enum):
    """What a value must be; the text is how a person is told."""

    WHOLE_NUMBER = "a whole number"
    TEXT = "text in quotes"
    PATH = "an absolute path in quotes"
    OPTIONAL_PATH = 'an absolute path in quotes, or "" for none'
    ADDRESS = "an IP address in quotes"
    PATTERNS = "a list of interface names in quotes"
    CHOICE = "one of the words below, in quotes"


class Required(Enum):
    """Stands where a key has no default."""

    REQUIRED = "required"


@dataclass(frozen=True)
class Key:
    """One key: where it stands, what it must be, its default and range, and what a person needs to know of it."""

    section: str
    name: str
    kind: Kind
    default: int | str | tuple[str, ...] | Required
    help: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    example: str = ""  # as it would be typed; shown in the sample and in remedies where there is no default

    @property
    def path(self) -> str:
        """section.name, as errors name it."""
        return f"{self.section}.{self.name}"


SECTIONS: Final[dict[str, str]] = {
    "device": "Where this device keeps its identity and its queue.",
    "broker": "The census broker, reached through the VPN only.",
    "vpn": "Which network interfaces count as the VPN.",
    "intake": "How form programs hand over questionnaires.",
    "sync": "How the backlog goes to the center and its receipts come back.",
    "storage": "What to leave free on the disk.",
    "log": "What goes to the journal.",
}

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "device",
        "provisioning_directory",
        Kind.PATH,
        "/etc/edge-agent/provisioning",
        "The folder that enrolment wrote: this device's keys, certificates and the center's public keys.",
    ),
    Key(
        "device",
        "state_directory",
        Kind.PATH,
        "/var/lib/edge-agent",
        "The queue of sealed questionnaires. Must survive a restart: never a temporary file system.",
    ),
    Key(
        "device",
        "runtime_directory",
        Kind.PATH,
        "/run/edge-agent",
        "The local socket for form programs. May vanish at shutdown.",
    ),
    Key(
        "device",
        "operator_group",
        Kind.TEXT,
        "census-operator",
        "Members of this group may ask the running daemon for its status and its queue.",
        minimum=1,
        maximum=32,
    ),
    Key(
        "broker",
        "address",
        Kind.ADDRESS,
        Required.REQUIRED,
        "The broker's address inside the VPN, IPv4 or IPv6. A host name is not accepted: it would be looked up "
        "outside the tunnel, which tells the local network where this device reports to and lets it answer falsely. "
        "The broker's certificate must name this address.",
        example='"10.8.0.1"',
    ),
    Key("broker", "port", Kind.WHOLE_NUMBER, 8883, "The broker's port for MQTT over TLS.", 1, 65535),
    Key(
        "broker",
        "keepalive_seconds",
        Kind.WHOLE_NUMBER,
        60,
        "How long the line may be silent before the daemon asks whether the broker is still there. Longer saves "
        "battery, shorter notices a dead tunnel earlier.",
        10,
        3600,
    ),
    Key(
        "broker",
        "session_expiry_seconds",
        Kind.WHOLE_NUMBER,
        30 * DAY_SECONDS,
        "How long the broker keeps receipts for this device while it is away. A lost session loses no "
        "questionnaire: receipts are asked for again.",
        DAY_SECONDS // 24,
        365 * DAY_SECONDS,
    ),
    Key(
        "broker",
        "connect_timeout_seconds",
        Kind.WHOLE_NUMBER,
        20,
        "How long to wait for the broker to answer, once for the connection and once for its greeting.",
        1,
        300,
    ),
    Key(
        "broker",
        "backoff_seconds_min",
        Kind.WHOLE_NUMBER,
        2,
        "The longest wait before the first new try after a lost connection; each wait is drawn at random below its "
        "limit, which doubles every time.",
        1,
        3600,
    ),
    Key(
        "broker",
        "backoff_seconds_max",
        Kind.WHOLE_NUMBER,
        300,
        "The longest wait between two tries. Thousands of tablets come back together after an outage: keep it in "
        "minutes.",
        1,
        DAY_SECONDS,
    ),
    Key(
        "vpn",
        "interfaces",
        Kind.PATTERNS,
        ("wg*", "tun*"),
        "Names of the VPN's interfaces; * stands for anything, ? for one character. The broker is spoken to only "
        "while the way to its address leaves by one of them. `ip link` lists the names on this device.",
    ),
    Key(
        "intake",
        "drop_directory",
        Kind.OPTIONAL_PATH,
        "/var/lib/edge-agent/drop",
        'A watched folder: a file moved into it is sealed and taken away. "" switches it off.',
    ),
    Key(
        "intake",
        "default_form",
        Kind.TEXT,
        "",
        "The form id for a JSON questionnaire that names none itself. Empty: such a questionnaire is refused.",
        maximum=200,
        example='"household-2021"',
    ),
    Key(
        "intake",
        "submit_socket_group",
        Kind.TEXT,
        "census-submit",
        "Members of this group may hand over questionnaires through the local socket.",
        minimum=1,
        maximum=32,
    ),
    Key(
        "intake",
        "questionnaire_bytes_max",
        Kind.WHOLE_NUMBER,
        10_000_000,
        "The largest questionnaire accepted, attachments included, in bytes.",
        1_000,
        10_000_000,
    ),
    Key(
        "sync",
        "bundles_in_flight_max",
        Kind.WHOLE_NUMBER,
        20,
        "How many bundles may be on the way to the broker without its acknowledgement.",
        1,
        100,
    ),
    Key(
        "sync",
        "bundle_bytes_max",
        Kind.WHOLE_NUMBER,
        262_144,
        "The largest bundle in one message. Smaller costs less when a poor connection breaks; below 200,000 bytes a "
        "large envelope still goes as a bundle of its own.",
        16_384,
        262_144,
    ),
    Key(
        "sync",
        "receipt_wait_seconds",
        Kind.WHOLE_NUMBER,
        600,
        "How long to wait for the center's receipt before an envelope is sent again; doubles with every try.",
        10,
        7 * DAY_SECONDS,
    ),
    Key(
        "sync",
        "receipt_silence_alarm_seconds",
        Kind.WHOLE_NUMBER,
        3 * DAY_SECONDS,
        "After this long without any receipt, while questionnaires wait, `status`, the journal and "
        "`systemctl status` say so.",
        60,
        365 * DAY_SECONDS,
    ),
    Key(
        "storage",
        "free_bytes_min",
        Kind.WHOLE_NUMBER,
        50_000_000,
        "With less free space than this a new questionnaire is refused, so that what was accepted stays safe.",
        1_000_000,
        1_000_000_000_000,
    ),
    Key(
        "log",
        "level",
        Kind.CHOICE,
        "info",
        "How much to say.",
        choices=("debug", "info", "warning", "error"),
    ),
    Key(
        "log",
        "style",
        Kind.CHOICE,
        "auto",
        "auto: journal fields under systemd, readable text elsewhere.",
        choices=("auto", "journal", "text", "json"),
    ),
)
