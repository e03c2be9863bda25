"""What a form asks, as far as the census database is concerned: its questions, their types, groups and repeats.

Names and types are those of the ODK XForms specification (https://getodk.github.io/xforms-spec/).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FormRefused(Exception):
    """A file is no form that the center can take: what is wrong with it, and what to do next. Never quotes answers."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class AnswerType(StrEnum):
    """How an answer is read; what an XForm binds to another type is read as text."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    GEOPOINT = "geopoint"
    SELECT_ONE = "select_one"
    SELECT_MULTIPLE = "select_multiple"
    FILE = "file"
    """The name of an attachment."""


Path = tuple[str, ...]
"""Local names from below the root element down, repeats included: ("persons", "age")."""


@dataclass(frozen=True, slots=True)
class Question:
    """One bound leaf.

    `choices` are the values that a select may have; None where the form does not list them (an external list, or a
    list that is made of other answers), and of all other types. Of a list that is filtered by earlier answers they are
    all its names: whether a choice fits the earlier answers is not looked at.

    `required` means that a blank is a finding wherever the row is there: it is false where the form makes the question,
    or a group around it, relevant by a condition, since conditions are not evaluated here.
    """

    path: Path
    type: AnswerType
    choices: frozenset[str] | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """A group that occurs any number of times; repeats in it name it as the beginning of their path."""

    path: Path


@dataclass(frozen=True, slots=True)
class FormDefinition:
    """One version of a form. Questions and repeats are in document order; `meta` questions are not among them."""

    form: str
    version: str
    title: str
    root: str
    """The local name of the instance's root element."""
    questions: tuple[Question, ...]
    repeats: tuple[Repeat, ...]
