"""The section [log], which every program's file has."""

from dataclasses import dataclass
from typing import Final, Literal

from operations.configuration.kinds import CHOICE
from operations.configuration.table import Key

LOG_PURPOSE: Final = "What goes to the journal."
LOG_KEYS: Final = (
    Key("log", "level", CHOICE, "info", "How much to say.", choices=("debug", "info", "warning", "error")),
    Key(
        "log",
        "style",
        CHOICE,
        "auto",
        "auto: journal fields under systemd, readable text elsewhere.",
        choices=("auto", "journal", "text", "json"),
    ),
)


@dataclass(frozen=True)
class LogConfiguration:
    """What `operations.journal.configure_logging` is given."""

    level: Literal["debug", "info", "warning", "error"]
    style: Literal["auto", "journal", "text", "json"]
