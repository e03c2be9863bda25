"""The key in the endpoint's address: made once, kept in the state directory, readable for the daemon only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from operations.durable_files import write_durably

KEY_FILE_NAME: Final = "openrosa-key"
KEY_FILE_MODE: Final = 0o600
KEY_BYTES: Final = 48
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{64}", re.ASCII)
_FILE_BYTES_MAX: Final = 1_000


class KeyFileError(OSError):
    """The file is there, but it holds no key."""


def read_key(state_directory: Path) -> str | None:
    """Return the key, or None when none was made yet; raises OSError."""
    path = state_directory / KEY_FILE_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX).decode("ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if _KEY.fullmatch(text) is None:
        raise KeyFileError(f"{path} holds no key: remove it, and a new one is made at the next start")
    return text


def read_or_make_key(state_directory: Path, new_key: str) -> str:
    """Return the key; `new_key` (64 random characters of base64url) becomes it when there is none. Raises OSError."""
    key = read_key(state_directory)
    if key is None:
        write_durably(state_directory / KEY_FILE_NAME, f"{new_key}\n".encode(), mode=KEY_FILE_MODE)
        return new_key
    return key


def address(port: int, key: str) -> str:
    """Return what a person enters as the server of ODK Collect."""
    return f"http://127.0.0.1:{port}/key/{key}"
