"""What commands do with a refusal of the center's own logic."""

from __future__ import annotations

from typing import TypeVar

from central_broker.enrolment import Refused
from operations.console import fail

Answer = TypeVar("Answer")


def or_fail(answer: Answer | Refused) -> Answer:
    """Return the answer, or end the command with what is wrong and what to do."""
    if isinstance(answer, Refused):
        fail(answer.problem, answer.remedy)
    return answer
