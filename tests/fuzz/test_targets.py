"""What the fuzzers start from, what they once found, and small damage to both; atheris is not needed for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_starts_from_and_what_it_once_found_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.seeds, *(path.read_bytes() for path in sorted((FOUND / name).glob("*")))):
        target.read(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None)
@given(drawn=st.data())
def test_damaged_inputs_are_read_or_refused(name: str, drawn: st.DataObject) -> None:
    target = TARGETS[name]
    data = bytearray(drawn.draw(st.sampled_from(target.seeds)))
    for _ in range(drawn.draw(st.integers(1, 4))):
        start = drawn.draw(st.integers(0, len(data)))
        end = min(len(data), start + drawn.draw(st.integers(0, 30)))
        words = [word.encode() for word in target.dictionary] or [b""]
        data[start:end] = drawn.draw(st.one_of(st.binary(max_size=20), st.sampled_from(words)))
    target.read(bytes(data))
