"""Which of the words was meant."""

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], *, likeness_min: float = 0.6) -> str | None:
    """The word most like this one, capitals aside; None when none is at least so like it (0 to 1)."""
    # Imported here: a daemon whose configuration is right does not need it.
    import difflib

    found = difflib.get_close_matches(word.lower(), list(words), 1, cutoff=likeness_min)
    return found[0] if found else None
