"""What is wrong with a configuration file, as a person is told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mistake:
    """One thing wrong: the line from 1 and the key (section.name), each None where there is none; the remedy."""

    line: int | None
    key: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = ("" if self.line is None else f"line {self.line}: ") + ("" if self.key is None else f"{self.key}: ")
        return f"{place}{self.problem}; what to do: {self.remedy}"


class ConfigurationError(Exception):
    """The file cannot be used. `mistakes` are all that were found, in the order of the file; never empty."""

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.path = path
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {mistake}" for mistake in mistakes)]))


class Unfit(Exception):
    """A value that cannot be taken; a kind's check raises it, and `check_document` makes a Mistake of it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
