"""XPath as XLSForms write it (${name} for an answer), evaluated on answers: enough for the forms that we ship.

After the ODK XForms specification: substr counts from 0, dates compare as days, an unanswered question is ''.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import date

Value = str | float | bool | date

TOKEN = re.compile(r"\s*(?:(\d+)|'([^']*)'|\$\{(\w+)\}|([a-z][a-z-]*)|(!=|<=|>=|[()=<>+*,.-]))")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATOR_WORDS = frozenset({"and", "or", "mod"})


def number(value: Value) -> float:
    """As XPath's number(): what is no number is NaN, and NaN compares as false."""
    if isinstance(value, date):
        return value.toordinal()
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return date.fromisoformat(value).toordinal()
    try:
        return float(value)
    except ValueError:
        return math.nan


def text(value: Value) -> str:
    """As XPath's string(): numbers without a needless fraction."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)


def truth(value: Value) -> bool:
    """As XPath's boolean()."""
    if isinstance(value, float):
        return value != 0 and not math.isnan(value)
    return bool(value)


def equal(left: Value, right: Value) -> bool:
    """As XPath's =: by truth, else as numbers, else as strings."""
    if isinstance(left, bool) or isinstance(right, bool):
        return truth(left) == truth(right)
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return number(left) == number(right)


def formatted(moment: Value, form: Value) -> str:
    """format-date() of an answered date; '' for an unanswered one."""
    return moment.strftime(text(form)) if isinstance(moment, date) else ""


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "if": lambda condition, yes, no: yes if truth(condition) else no,
    "not": lambda value: not truth(value),
    "number": lambda value: float(number(value)),
    "regex": lambda value, pattern: re.search(text(pattern), text(value)) is not None,
    "substr": lambda value, start, end: text(value)[int(start) : int(end)],
    "string-length": lambda value: float(len(text(value))),
    "selected": lambda value, choice: text(choice) in text(value).split(),
    "count-selected": lambda value: float(len(text(value).split())),
    "date": lambda value: date.fromisoformat(text(value)),
    "format-date": formatted,
}


class Expression:
    """One expression being evaluated from left to right; `evaluate` makes and drops it."""

    def __init__(self, source: str, answers: Mapping[str, Value], current: Value) -> None:
        self.tokens = tokens(source)
        self.answers, self.current, self.next = answers, current, 0

    def taken(self, *words: str) -> str | None:
        """The next token if it is one of these operators."""
        kind, word = self.tokens[self.next]
        if kind == "operator" and word in words:
            self.next += 1
            return word
        return None

    def either(self) -> Value:
        value = self.both()
        while self.taken("or"):
            right = self.both()
            value = truth(value) or truth(right)
        return value

    def both(self) -> Value:
        value = self.compared()
        while self.taken("and"):
            right = self.compared()
            value = truth(value) and truth(right)
        return value

    def compared(self) -> Value:
        value = self.summed()
        while sign := self.taken("=", "!=", "<", "<=", ">", ">="):
            right = self.summed()
            if sign in COMPARISONS:
                value = COMPARISONS[sign](number(value), number(right))
            else:
                value = equal(value, right) == (sign == "=")
        return value

    def summed(self) -> Value:
        value = self.multiplied()
        while sign := self.taken("+", "-"):
            right = number(self.multiplied())
            value = number(value) + (right if sign == "+" else -right)
        return value

    def multiplied(self) -> Value:
        value = self.single()
        while sign := self.taken("*", "mod"):
            right = number(self.single())
            value = number(value) * right if sign == "*" else math.fmod(number(value), right)
        return value

    def single(self) -> Value:
        kind, word = self.tokens[self.next]
        self.next += 1
        if kind == "number":
            return float(word)
        if kind == "string":
            return word
        if kind == "answer":
            return self.answers.get(word, "")
        if kind == "function":
            return FUNCTIONS[word](*self.arguments())
        if word == ".":
            return self.current
        value = self.either()
        if word != "(" or not self.taken(")"):
            raise ValueError(f"{word} is out of place")
        return value

    def arguments(self) -> list[Value]:
        if not self.taken("("):
            raise ValueError("a function without arguments")
        values = [self.either()]
        while self.taken(","):
            values.append(self.either())
        if not self.taken(")"):
            raise ValueError("a function's arguments do not end")
        return values


def tokens(source: str) -> list[tuple[str, str]]:
    """(kind, word) of every token; ValueError where the source is not of the subset."""
    found, place = [], 0
    source = source.strip()
    while place < len(source):
        match = TOKEN.match(source, place)
        if match is None:
            raise ValueError(f"not understood: {source[place : place + 20]}")
        digits, string, answer, word, _ = match.groups()
        kind = "number" if digits else "string" if string is not None else "answer" if answer else "operator"
        if word and word not in OPERATOR_WORDS:
            kind = "function"
        found.append((kind, next(group for group in match.groups() if group is not None)))
        place = match.end()
    return [*found, ("end", "")]


def evaluate(source: str, answers: Mapping[str, Value], current: Value = "") -> Value:
    """What an expression comes to; ValueError or KeyError where it is not of the subset."""
    expression = Expression(source, answers, current)
    value = expression.either()
    if expression.tokens[expression.next][0] != "end":
        raise ValueError(f"an expression does not end where it should: {source}")
    return value
