"""This device's own list of who is counted already: the key that it is sealed to, and opening it to show it.

The key is a 32-byte seed, made here and never leaving, in the state directory, readable for the daemon only. The list
stays in the queue as it came, sealed; what is opened is given to whoever asked, and neither written nor logged.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_agent.queue.inspection import Query
from operations.durable_files import write_durably
from sync_protocol.counted_list import CountedList, open_counted_list
from sync_protocol.errors import ProtocolError
from sync_protocol.keys import SEED_BYTES, RecipientPrivateKey
from sync_protocol.statement import COUNTED_LIST, Statement, parse_statement

LIST_KEY_FILE_NAME: Final = "list.key"
_FILE_BYTES_MAX: Final = 1_000


class ListUnreadable(Exception):
    """The list, or the key that it is sealed to, cannot be used; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def read_list_key(state_directory: Path) -> RecipientPrivateKey:
    """Return the key; raises ListUnreadable, FileNotFoundError when none was made yet."""
    path = state_directory / LIST_KEY_FILE_NAME
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                raise ListUnreadable(f"{path} can be read by others", f"run: sudo chmod 600 {path}")
            text = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ListUnreadable(f"cannot read {path}: {error.strerror}", "run as the daemon's user or as root") from error
    try:
        seed = bytes.fromhex(text.decode())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        remedy = f"remove {path} and restart the daemon: it makes a new key, and the center seals the next list to that"
        raise ListUnreadable(f"{path} is damaged", remedy)
    return RecipientPrivateKey(seed)


def read_or_make_list_key(state_directory: Path, new_seed: bytes) -> RecipientPrivateKey:
    """Return the key; `new_seed` (32 random bytes) becomes it when there is none. Raises ListUnreadable, OSError."""
    try:
        return read_list_key(state_directory)
    except FileNotFoundError:
        write_durably(state_directory / LIST_KEY_FILE_NAME, new_seed.hex().encode() + b"\n", mode=0o600)
        return RecipientPrivateKey(new_seed)


def open_own_list(query: Query, device: bytes, state_directory: Path) -> CountedList | None:
    """Return the newest list for this device, opened; None when there is none. Raises ListUnreadable."""
    source = _own_statement(query, device)
    return None if source is None else _opened(source, state_directory)


def _own_statement(query: Query, device: bytes) -> Statement | None:
    rows = query(
        "SELECT data FROM statement WHERE kind = :kind AND subject = :subject",
        {"kind": COUNTED_LIST, "subject": device},
    )
    return next((parse_statement(bytes(row["data"])) for row in rows), None)


def _opened(source: Statement, state_directory: Path) -> CountedList:
    try:
        return open_counted_list(source, read_list_key(state_directory))
    except FileNotFoundError:
        problem = f"there is no {state_directory / LIST_KEY_FILE_NAME}, to which the list was sealed"
        remedy = "restart the daemon: it makes a new key, and the center seals the next list to that"
        raise ListUnreadable(problem, remedy) from None
    except ProtocolError as error:
        remedy = "wait for the next list; if it lasts, call the center"
        raise ListUnreadable(f"the list cannot be opened: {error.detail}", remedy) from None


def list_document(list_: CountedList) -> dict[str, Any]:
    """Return the list as plain values, with every member."""
    return {
        "as_of": list_.as_of,
        "keep_until": list_.keep_until,
        "sections": [
            {
                "place": section.place,
                "title": section.title,
                "entries": [
                    {name: getattr(entry, name) for name in entry.__struct_fields__} for entry in section.entries
                ],
                "notices": list(section.notices),
            }
            for section in list_.sections
        ],
    }


class OwnListStatus:
    """What `status` tells of the list, without a name in it; each list is opened for that once."""

    def __init__(self, device: bytes, state_directory: Path) -> None:
        self._device = device
        self._state_directory = state_directory
        self._opened: tuple[int, int] | None = None
        """Serial and `as_of` of the list that was opened last."""

    def __call__(self, query: Query) -> Mapping[str, Any] | None:
        """Return `as_of` (None when it cannot be opened), `problem` and `remedy`; None when there is no list."""
        source = _own_statement(query, self._device)
        if source is None:
            return None
        if self._opened is None or self._opened[0] != source.serial:
            try:
                self._opened = source.serial, _opened(source, self._state_directory).as_of
            except ListUnreadable as error:
                return {"as_of": None, "problem": str(error), "remedy": error.remedy}
        return {"as_of": self._opened[1], "problem": None, "remedy": None}
