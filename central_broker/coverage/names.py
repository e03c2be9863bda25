"""Names made comparable: the same person is written with ё or е, with Kazakh letters or the Russian ones nearest to
them, in capitals, or with given name and surname in each other's place.

Two names with one key are alike, not the same: `matching` asks for more than that.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_LETTERS: Final = str.maketrans(
    {"ё": "е", "й": "и", "ә": "а", "ғ": "г", "қ": "к", "ң": "н", "ө": "о", "ұ": "у", "ү": "у", "һ": "х", "і": "и"}
    | dict.fromkeys("ьъ'`’ʼ", None)  # typing: what some leave out
)
_NO_WORD: Final = re.compile(r"[\W_]+")


def name_key(*parts: str | None) -> str:
    """Return the key of a person's surname and given name, "" for no name: words folded, in alphabetical order."""
    return " ".join(sorted(_words(" ".join(part for part in parts if part))))


def place_key(name: str) -> str:
    """Return the key of a place's name: as of a person's, without the words that say what kind of place it is."""
    words = _words(name)
    return " ".join([word for word in words if word not in _KINDS_OF_PLACE] or words)


def place_shown(name: str) -> str:
    """Return a place's name in the letters in which it was written, without those words: "Аккайынский"."""
    words = [word for word in _NO_WORD.split(unicodedata.normalize("NFKC", name)) if word]
    return " ".join(word.capitalize() for word in words if not _KINDS_OF_PLACE.issuperset(_words(word)))


def _words(text: str) -> list[str]:
    # й and ё are letters with marks to Unicode; composed, they are the letters of the table.
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
    return [word for word in _NO_WORD.split(plain) if word]


_KINDS_OF_PLACE: Final = frozenset(
    _words("аудан ауданы район облыс облысы область обл қала қаласы город г district region city oblast")
)
