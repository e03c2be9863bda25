"""The one table of what may stand in the configuration file; the checks, the help and the sample come from it."""

from pathlib import Path
from typing import Final

from edge_agent.configuration_kinds import (
    BROKER_ADDRESS,
    EXCLUDED_PATTERNS,
    INTERFACE_PATTERNS,
    LED_NAME,
    LISTEN_ADDRESS,
    LOOPBACK_ORIGINS,
    PEER_ADDRESSES,
    tls_problem,
)
from operations.configuration import (
    CHOICE,
    LOG_KEYS,
    LOG_PURPOSE,
    OPTIONAL_PATH,
    PATH,
    TEXT,
    TRUE_OR_FALSE,
    WHOLE_NUMBER,
    AtMost,
    Consistent,
    Key,
    Required,
    Table,
    Value,
)

DEFAULT_PATH: Final = Path("/etc/edge-agent/edge-agent.toml")
DAY_SECONDS: Final = 24 * 60 * 60

SECTIONS: Final[dict[str, str]] = {
    "device": "Where this device keeps its identity and its queue.",
    "broker": "The census broker, reached through the VPN only.",
    "vpn": "Which network interfaces count as the VPN.",
    "intake": "How form programs hand over questionnaires.",
    "sync": "How the backlog goes to the center and its receipts come back.",
    "mesh": "How devices near each other find one another, and carry for one another.",
    "usb": "How media of the Department are found, read and written.",
    "online": "How the census web site hands in questionnaires, on a machine that is enrolled with the role online.",
    "storage": "What to leave free on the disk.",
    "log": LOG_PURPOSE,
}

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "device",
        "provisioning_directory",
        PATH,
        "/etc/edge-agent/provisioning",
        "The folder that enrolment wrote: this device's keys, certificates and the center's public keys.",
    ),
    Key(
        "device",
        "state_directory",
        PATH,
        "/var/lib/edge-agent",
        "The queue of sealed questionnaires. Must survive a restart: never a temporary file system.",
    ),
    Key(
        "device",
        "runtime_directory",
        PATH,
        "/run/edge-agent",
        "The local socket for form programs. May vanish at shutdown.",
    ),
    Key(
        "device",
        "operator_group",
        TEXT,
        "census-operator",
        "Members of this group may ask the running daemon for its status and its queue.",
        minimum=1,
        maximum=32,
    ),
    Key(
        "device",
        "counted_lists",
        TRUE_OR_FALSE,
        True,
        "Whether this device makes a key, so that the center can give it lists of who is counted already, sealed "
        "to it. The key goes to the center as one more envelope. Switch it off where nobody interviews.",
    ),
    Key(
        "broker",
        "address",
        BROKER_ADDRESS,
        Required.REQUIRED,
        "The broker's address inside the VPN, IPv4 or IPv6. A host name is not accepted: it would be looked up "
        "outside the tunnel, which tells the local network where this device reports to and lets it answer falsely. "
        "The broker's certificate must name this address.",
        example='"10.8.0.1"',
    ),
    Key("broker", "port", WHOLE_NUMBER, 8883, "The broker's port for MQTT over TLS.", 1, 65535),
    Key(
        "broker",
        "keepalive_seconds",
        WHOLE_NUMBER,
        60,
        "How long the line may be silent before the daemon asks whether the broker is still there. Longer saves "
        "battery, shorter notices a dead tunnel earlier.",
        10,
        3600,
    ),
    Key(
        "broker",
        "session_expiry_seconds",
        WHOLE_NUMBER,
        30 * DAY_SECONDS,
        "How long the broker keeps receipts for this device while it is away. A lost session loses no "
        "questionnaire: receipts are asked for again.",
        DAY_SECONDS // 24,
        365 * DAY_SECONDS,
    ),
    Key(
        "broker",
        "connect_timeout_seconds",
        WHOLE_NUMBER,
        20,
        "How long to wait for the broker to answer, once for the connection and once for its greeting.",
        1,
        300,
    ),
    Key(
        "broker",
        "backoff_seconds_min",
        WHOLE_NUMBER,
        60,
        "The longest wait before the first new try after a lost connection; each wait is drawn at random below its "
        "limit, which doubles every time. When the broker is restarted, every tablet of the census comes back within "
        "this time: one broker lets in some hundreds a second. A VPN that returns is tried at once in any case.",
        1,
        3600,
    ),
    Key(
        "broker",
        "backoff_seconds_max",
        WHOLE_NUMBER,
        300,
        "The longest wait between two tries. Thousands of tablets come back together after an outage: keep it in "
        "minutes.",
        1,
        DAY_SECONDS,
    ),
    Key(
        "vpn",
        "interfaces",
        INTERFACE_PATTERNS,
        ("wg*", "tun*"),
        "Names of the VPN's interfaces; * stands for anything, ? for one character. The broker is spoken to only "
        "while the way to its address leaves by one of them. `ip link` lists the names on this device.",
    ),
    Key(
        "intake",
        "drop_directory",
        OPTIONAL_PATH,
        "/var/lib/edge-agent/drop",
        'A watched folder: a file moved into it is sealed and taken away. "" switches it off.',
    ),
    Key(
        "intake",
        "default_form",
        TEXT,
        "",
        "The form id for a JSON questionnaire that names none itself. Empty: such a questionnaire is refused.",
        maximum=200,
        example='"household-2021"',
    ),
    Key(
        "intake",
        "submit_socket_group",
        TEXT,
        "census-submit",
        "Members of this group may hand over questionnaires through the local socket.",
        minimum=1,
        maximum=32,
    ),
    Key(
        "intake",
        "questionnaire_bytes_max",
        WHOLE_NUMBER,
        10_000_000,
        "The largest questionnaire accepted, attachments included, in bytes.",
        1_000,
        10_000_000,
    ),
    Key(
        "intake",
        "openrosa",
        TRUE_OR_FALSE,
        False,
        "Whether form programs of the ODK family on this device (ODK Collect, KoboCollect, Enketo) can submit to "
        "it, and find its forms. Nobody else on the network can reach it. edge-agent status says the address to enter.",
    ),
    Key(
        "intake",
        "openrosa_port",
        WHOLE_NUMBER,
        8885,
        "The port of 127.0.0.1 and ::1 on which they find it.",
        1_024,
        65_535,
    ),
    Key(
        "intake",
        "openrosa_origins",
        LOOPBACK_ORIGINS,
        (),
        "Web pages on this device that may submit by themselves, as a browser names them. Enketo needs none: its "
        "server submits for its pages.",
        example='["http://localhost:8005"]',
    ),
    Key(
        "sync",
        "bundles_in_flight_max",
        WHOLE_NUMBER,
        20,
        "How many bundles may be on the way to the broker without its acknowledgement.",
        1,
        100,
    ),
    Key(
        "sync",
        "bundle_bytes_max",
        WHOLE_NUMBER,
        262_144,
        "The largest bundle in one message. Smaller costs less when a poor connection breaks; below 200,000 bytes a "
        "large envelope still goes as a bundle of its own.",
        16_384,
        262_144,
    ),
    Key(
        "sync",
        "receipt_wait_seconds",
        WHOLE_NUMBER,
        600,
        "How long to wait for the center's receipt before an envelope is sent again; doubles with every try.",
        10,
        7 * DAY_SECONDS,
    ),
    Key(
        "sync",
        "receipt_silence_alarm_seconds",
        WHOLE_NUMBER,
        3 * DAY_SECONDS,
        "After this long without any receipt, while questionnaires wait, `status`, the journal and "
        "`systemctl status` say so.",
        60,
        365 * DAY_SECONDS,
    ),
    Key(
        "mesh",
        "duty",
        CHOICE,
        "always",
        "When this device talks with neighbours. always: as long as it runs. mains: while it is not on battery. "
        "interval: on battery for a minute and a half every interval_minutes, when all devices with this duty and a "
        "clock that is right are awake together; else always. off: never; it then carries for nobody near, and nobody "
        "near carries for it.",
        choices=("off", "always", "mains", "interval"),
    ),
    Key(
        "mesh",
        "interval_minutes",
        WHOLE_NUMBER,
        15,
        'How far apart the looks at neighbours are with duty = "interval", by the device\'s clock: the same number on '
        "every device of a district. Longer saves battery; a neighbour that passes by is met less often.",
        2,
        1440,
    ),
    Key(
        "mesh",
        "port",
        WHOLE_NUMBER,
        8884,
        "The port on which neighbours are let in (TCP). The device's firewall must let it in, and UDP 5353 for finding "
        "them.",
        1024,
        65535,
    ),
    Key(
        "mesh",
        "excluded_interfaces",
        EXCLUDED_PATTERNS,
        (),
        "Names of interfaces that the mesh leaves alone, besides those of the VPN, loopback and tunnels; * stands for "
        "anything, ? for one character. For a mobile network that costs money, or a network of the house.",
        example='["wwan*"]',
    ),
    Key(
        "mesh",
        "discovery",
        TRUE_OR_FALSE,
        True,
        "Whether neighbours are looked for (mDNS), and this device lets itself be found. Its name changes with every "
        "start and says nothing of it. Without it, only static_peers are dialled.",
    ),
    Key(
        "mesh",
        "static_peers",
        PEER_ADDRESSES,
        (),
        "Neighbours that are dialled whether they are found or not: for networks that let no mDNS pass. IPv4 or IPv6, "
        "with a port if it is another than port above; link-local IPv6 with its interface. At most 32.",
        example='["192.168.4.1", "[fe80::1%eth0]:8884"]',
    ),
    Key(
        "mesh",
        "foreign_megabytes_max",
        WHOLE_NUMBER,
        256,
        "How much of the disk the envelopes of other devices may take, from neighbours and media alike. A collection "
        "point needs more: one questionnaire takes some kilobytes.",
        16,
        100_000,
    ),
    Key(
        "usb",
        "mounting",
        CHOICE,
        "auto",
        "How media are mounted. udisks: by the system's UDisks2. system: by the daemon itself, which then needs the "
        "right to mount. auto: whichever of them can. off: media that are plugged in are left alone.",
        choices=("auto", "udisks", "system", "off"),
    ),
    Key(
        "usb",
        "receipt_wait_seconds",
        WHOLE_NUMBER,
        20,
        "How long a device with a way to the center waits, with the medium in place, for the next receipt, so that "
        "the medium takes it back to the tablets. 0: not at all.",
        0,
        600,
    ),
    Key(
        "usb",
        "language",
        CHOICE,
        "en",
        "The language of the sentences on media: English, Russian (ru) or Kazakh (kk).",
        choices=("en", "ru", "kk"),
    ),
    Key(
        "usb",
        "hook",
        OPTIONAL_PATH,
        "",
        "A program that is run with the word working, safe or failed when a visit to a medium begins and ends, with "
        'MEDIUM_NUMBER and MEDIUM_SENTENCE in its environment: for a sound, or whatever the site has. "" for none.',
        example='"/usr/local/bin/census-medium-sound"',
    ),
    Key(
        "usb",
        "notify_group",
        TEXT,
        "",
        "Members of this group may see on their desktop what becomes of a medium (`edge-agent notify`, started with "
        'their session). The daemon\'s user must be in it, too. "" for nobody.',
        maximum=32,
        example='"census-submit"',
    ),
    Key(
        "usb",
        "led",
        LED_NAME,
        "",
        "A light of this machine, by its name below /sys/class/leds: it blinks slowly while a medium is worked on, is "
        "on when all may be removed, and blinks fast when a visit failed. It takes a udev rule and a drop-in of the "
        'service; both are among the examples. "" for none.',
        example='"input3::scrolllock"',
    ),
    Key(
        "online",
        "enabled",
        TRUE_OR_FALSE,
        False,
        "Whether the census web site can hand in questionnaires here (docs/online.md). The mesh and media then stay "
        "off unless mesh.duty and usb.mounting say otherwise.",
    ),
    Key(
        "online",
        "listen_address",
        LISTEN_ADDRESS,
        "127.0.0.1",
        "The address of this machine at which the web site's servers reach it, IPv4 or IPv6. One other than loopback "
        "needs tls_certificate and tls_key.",
        example='"10.9.0.5"',
    ),
    Key("online", "port", WHOLE_NUMBER, 8886, "The port at this address.", 1_024, 65_535),
    Key(
        "online",
        "tls_certificate",
        OPTIONAL_PATH,
        "",
        "The certificate that the web site's servers see, with what leads to its authority (PEM). A new one in its "
        'place is taken within a minute. "" for none: plain HTTP, on loopback only.',
        example='"/etc/edge-agent/online.crt"',
    ),
    Key(
        "online",
        "tls_key",
        OPTIONAL_PATH,
        "",
        'Its private key (PEM, without a passphrase), readable for the daemon\'s user and nobody else. "" for none.',
        example='"/etc/edge-agent/online.key"',
    ),
    Key(
        "online",
        "tokens_file",
        PATH,
        "/etc/edge-agent/online-tokens",
        "The SHA-256 of each token in force, in hexadecimal, one on a line, with a name behind it if you like. A "
        "change of the file holds from the next request on.",
    ),
    Key(
        "online",
        "connections_max",
        WHOLE_NUMBER,
        64,
        "How many connections are served at once; more are ended at once.",
        1,
        512,
    ),
    Key(
        "storage",
        "free_bytes_min",
        WHOLE_NUMBER,
        50_000_000,
        "With less free space than this a new questionnaire is refused, so that what was accepted stays safe.",
        1_000_000,
        1_000_000_000_000,
    ),
    *LOG_KEYS,
)

ONLINE_DEFAULTS: Final[dict[str, Value]] = {"mesh.duty": "off", "usb.mounting": "off"}
"""Where [online] is enabled: a machine beside the web site's servers has no neighbours, and no sticks come to it."""

TABLE: Final = Table(
    heading=(
        "Configuration of the edge daemon (TOML). A key that is commented out has the value shown.",
        "After a change: edge-agent doctor, then systemctl restart edge-agent.",
    ),
    sample_place="the sample file that `edge-agent sample-configuration` prints",
    sections=SECTIONS,
    keys=KEYS,
    rules=(
        AtMost("broker.backoff_seconds_min", "broker.backoff_seconds_max"),
        AtMost("sync.receipt_wait_seconds", "sync.receipt_silence_alarm_seconds"),
        Consistent("online.listen_address", tls_problem),
    ),
)
