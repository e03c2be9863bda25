"""The tokens with which the web site's servers come: a file of their SHA-256, so that it gives away none of them.

    <64 hexadecimal digits>  <whatever people call it>

Several are in force at once, so that one can be replaced without a break. Empty lines and lines that begin with # mean
nothing.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

TOKENS_MAX: Final = 64
_FILE_BYTES_MAX: Final = 64 * 1024
_LINE: Final = re.compile(r"([0-9a-f]{64})(?:\s.*)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class TokenList:
    """What a file says: digests of tokens, and the numbers of lines that are none."""

    digests: tuple[bytes, ...]
    odd_lines: tuple[int, ...]

    def allows(self, token: str) -> bool:
        """Tell whether a token is in force, in a time that says nothing of how nearly it is."""
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self.digests) > 0  # all are compared


def read_tokens(path: Path) -> TokenList:
    """Read the file; raises OSError when it cannot be read, or is none of the kind."""
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise OSError(f"{path} has more than {_FILE_BYTES_MAX:,} bytes")
    digests: list[bytes] = []
    odd_lines: list[int] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        text = line.strip()
        found = _LINE.fullmatch(text)
        if found is not None and len(digests) < TOKENS_MAX:
            digests.append(bytes.fromhex(found[1]))
        elif text and not text.startswith("#"):
            odd_lines.append(number)
    return TokenList(tuple(digests), tuple(odd_lines))


class TokenFile:
    """Knows the tokens as the file has them now; `on_odd_lines` is told of lines that are none whenever it changed."""

    def __init__(self, path: Path, on_odd_lines: Callable[[tuple[int, ...]], None]) -> None:
        self._path = path
        self._on_odd_lines = on_odd_lines
        self._seen: tuple[int, ...] | None = None
        self._tokens = TokenList((), ())

    def allows(self, token: str) -> bool:
        """Tell whether a token is in force; raises OSError when the file cannot be read."""
        status = os.stat(self._path)  # noqa: PTH116  # each request asks, and Path costs more than the call
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if seen != self._seen:
            self._tokens, self._seen = read_tokens(self._path), seen
            if self._tokens.odd_lines:
                self._on_odd_lines(self._tokens.odd_lines)
        return self._tokens.allows(token)
