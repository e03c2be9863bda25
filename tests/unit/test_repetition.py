"""The same trouble at every try, for days."""

from __future__ import annotations

from edge_agent.repetition import Repetitions


def test_a_trouble_is_told_first_and_then_once_an_interval_with_what_was_left_out() -> None:
    repetitions = Repetitions(interval_seconds=3600)
    told = [repetitions.worth_telling("refused", second) for second in range(0, 7201, 60)]
    assert [(position, untold) for position, untold in enumerate(told) if untold is not None] == [
        (0, 0),
        (60, 59),
        (120, 59),
    ]


def test_troubles_that_alternate_do_not_make_each_other_new() -> None:
    repetitions = Repetitions(interval_seconds=3600)
    told = [repetitions.worth_telling(("refused", "timed out")[second % 2], second) for second in range(1000)]
    assert [untold for untold in told if untold is not None] == [0, 0]


def test_troubles_that_never_repeat_take_no_memory_without_end() -> None:
    repetitions = Repetitions()
    assert all(repetitions.worth_telling(f"trouble {number}", number) == 0 for number in range(1000))
    assert repetitions.worth_telling("trouble 999", 1001) is None
    assert repetitions.worth_telling("trouble 0", 1001) == 0
