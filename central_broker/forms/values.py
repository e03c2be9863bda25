"""Answers, one at a time, to what databases take; each type of answer has a quick reader and a patient one. Pure.

What a statistician must know of the values in the tables:

- **integer**: a signed 64-bit number. `3.0` is 3, `007` is 7.
- **decimal**: a double: about 15 digits, rounded to zero below 2.3e-308. A decimal point, no decimal comma.
- **date**: the calendar date as stated, years 0001 to 9999; a time or an offset that stands after it is dropped.
- **time**: what a clock on the wall showed; an offset is dropped. 24:00 is 00:00.
- **datetime**: a moment, in UTC (`2026-10-01T03:30:00+00:00`; in SQLite such texts sort and compare as moments). One
  stated without an offset is no moment: it is NULL, with the finding `no_offset`, rather than hours wrong. 24:00 is
  00:00 of the next day. Fractions of a second beyond six digits are cut.
- **geopoint**: latitude and longitude in degrees (WGS 84), altitude and accuracy in metres; the latter two may be NULL.
- **select one, file, text**: text. JSON numbers and booleans are written as JSON writes them (whole ones without `.0`).

Readers take numbers, texts and booleans; blanks, lists and objects are the caller's (`answers`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final

from central_broker.forms.definition import AnswerType

Value = str | int | float | bool | None

INTEGER_MAX: Final = 2**63 - 1
NUMBER_CHARACTERS_MAX: Final = 400
"""No double needs more; Python's own conversion of longer ones takes more than linear time."""

CHOICE_CHARACTERS_MAX: Final = 500
"""An index of PostgreSQL takes 2,704 bytes; longer texts are no choice of any form."""


class Rule(StrEnum):
    """What is the matter with an answer, or a part of a questionnaire. Where not said otherwise, the column is NULL."""

    NOT_A_NUMBER = "not_a_number"
    NOT_WHOLE = "not_whole"
    """A fraction where an integer is asked for."""
    NOT_A_BOOLEAN = "not_a_boolean"
    NOT_A_DATE = "not_a_date"
    NOT_A_TIME = "not_a_time"
    NOT_A_DATETIME = "not_a_datetime"
    NO_OFFSET = "no_offset"
    """A date and time without the offset from UTC: it could mean any of 27 hours."""
    NOT_A_GEOPOINT = "not_a_geopoint"
    OUT_OF_RANGE = "out_of_range"
    """A number, date or place that no column, calendar or globe has."""
    NOT_A_CHOICE = "not_a_choice"
    """Kept in its column: none of those that this version of the form offers."""
    TOO_LONG = "too_long"
    """A choice of more than CHOICE_CHARACTERS_MAX characters."""
    MISSING_REQUIRED = "missing_required"
    NOT_IN_FORM = "not_in_form"
    OCCURS_TWICE = "occurs_twice"
    """The first answer that is not blank is kept, this one is not."""
    UNEXPECTED_STRUCTURE = "unexpected_structure"
    """A group where an answer was expected, or an answer where a group was."""
    TOO_MANY_ROWS = "too_many_rows"
    """The value says how many rows of the questionnaire are left out."""
    TOO_MANY_FINDINGS = "too_many_findings"
    """The value says how many findings of the questionnaire are left out."""


class Odd(Enum):
    """What a quick reader returns for all that it leaves to the patient one."""

    ODD = "odd"


ODD: Final = Odd.ODD
Quick = Callable[[Any], Value | Odd]
Patient = Callable[[str], Value | Rule]

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CLOCK: Final = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
_OFFSET: Final = r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_DATE: Final = re.compile(rf"([0-9]{{4,9}})-([0-9]{{2}})-([0-9]{{2}})(?:[T ]{_CLOCK})?{_OFFSET}")
_TIME: Final = re.compile(_CLOCK + _OFFSET)
_DAY: Final = timedelta(days=1)
_OFFSET_MINUTES_MAX: Final = 14 * 60
_SMALLEST: Final = 2.2250738585072014e-308
_QUICK_DIGITS: Final = 18
_DATE_CHARACTERS: Final = 10
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})


def text_of(value: str | int | float | bool) -> str:
    """Return a scalar as text: booleans as JSON writes them, whole numbers without a point."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    try:
        return str(value)
    except ValueError:  # an integer of more digits than Python writes
        return "an integer of more than 4,000 digits"


def quick_text(value: Any) -> Value | Odd:
    """Read what is a text already."""
    if type(value) is str:
        return value if value and not value.isspace() else None
    return ODD


def patient_text(text: str) -> Value | Rule:
    """Read anything."""
    return text


def quick_integer(value: Any) -> Value | Odd:
    """Read digits, and numbers of JSON."""
    if type(value) is str:
        if value.isdigit() and value.isascii() and len(value) <= _QUICK_DIGITS:
            return int(value)
        return ODD if value else None
    return value if type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX else ODD


def patient_integer(text: str) -> Value | Rule:
    """Read a sign, leading zeros, and fractions that are none."""
    if len(text) > NUMBER_CHARACTERS_MAX:
        return Rule.NOT_A_NUMBER
    if _INTEGER.fullmatch(text):
        number = int(text)
        return number if -INTEGER_MAX - 1 <= number <= INTEGER_MAX else Rule.OUT_OF_RANGE
    if not _DECIMAL.fullmatch(text):
        return Rule.NOT_A_NUMBER
    try:
        exact = Decimal(text)
    except ArithmeticError:  # an exponent that even Decimal does not count
        return Rule.OUT_OF_RANGE
    if not -INTEGER_MAX - 1 <= exact <= INTEGER_MAX:
        return Rule.OUT_OF_RANGE
    return int(exact) if exact == exact.to_integral_value() else Rule.NOT_WHOLE


def quick_decimal(value: Any) -> Value | Odd:
    """Read numbers of JSON."""
    if type(value) is str:
        return ODD if value else None
    return value if type(value) is float and math.isfinite(value) and (abs(value) >= _SMALLEST or not value) else ODD


def patient_decimal(text: str) -> Value | Rule:
    """Read a number with a decimal point and an exponent."""
    if len(text) > NUMBER_CHARACTERS_MAX or not _DECIMAL.fullmatch(text):
        return Rule.NOT_A_NUMBER
    real = float(text)
    if math.isinf(real):
        return Rule.OUT_OF_RANGE
    return real if abs(real) >= _SMALLEST else 0.0


def quick_boolean(value: Any) -> Value | Odd:
    """Read booleans of JSON."""
    return value if type(value) is bool else ODD


def patient_boolean(text: str) -> Value | Rule:
    """Read true, false, 1 and 0."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else Rule.NOT_A_BOOLEAN


def quick_date(value: Any) -> Value | Odd:
    """Read YYYY-MM-DD."""
    if type(value) is not str or len(value) != _DATE_CHARACTERS or not value.isascii():
        return ODD if value != "" else None
    try:
        # Of the other forms that Python reads, none has ten characters and hyphens in these places.
        return date.fromisoformat(value).isoformat() if value[4] == value[7] == "-" else ODD
    except ValueError:
        return ODD


def patient_date(text: str) -> Value | Rule:
    """Read a date, with or without a time and an offset after it."""
    match = _DATE.fullmatch(text)
    if match is None:
        return Rule.NOT_A_DATE
    if len(match[1]) > 4:
        return Rule.OUT_OF_RANGE
    if match[4] is not None and _clock(match[4], match[5], match[6], match[7]) is None:
        return Rule.NOT_A_DATE
    try:
        return date(int(match[1]), int(match[2]), int(match[3])).isoformat()
    except ValueError:
        return Rule.NOT_A_DATE


def quick_other(value: Any) -> Value | Odd:
    """Leave everything but a blank to the patient reader."""
    return None if value == "" else ODD


def patient_time(text: str) -> Value | Rule:
    """Read HH:MM, seconds and fractions of them, and an offset, which is dropped."""
    match = _TIME.fullmatch(text)
    found = None if match is None else _clock(match[1], match[2], match[3], match[4])
    return Rule.NOT_A_TIME if found is None else found[0].isoformat()


def patient_datetime(text: str) -> Value | Rule:
    """Read a moment, as ISO 8601 text in UTC."""
    match = _DATE.fullmatch(text)
    if match is None or match[4] is None:
        return Rule.NOT_A_DATETIME
    found = _clock(match[4], match[5], match[6], match[7])
    if found is None:
        return Rule.NOT_A_DATETIME
    if len(match[1]) > 4:
        return Rule.OUT_OF_RANGE
    try:
        day = date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return Rule.NOT_A_DATETIME
    if match[8] is None:
        return Rule.NO_OFFSET
    offset = _offset(match[8])
    if offset is None:
        return Rule.NOT_A_DATETIME
    try:
        moment = datetime.combine(day, found[0], timezone(offset)) + (_DAY if found[1] else timedelta())
        return moment.astimezone(UTC).isoformat()
    except (OverflowError, ValueError):
        return Rule.OUT_OF_RANGE


def _clock(hours: str, minutes: str, seconds: str | None, fraction: str | None) -> tuple[time, bool] | None:
    """Return the time of day, and whether it was written as 24:00 of the day before."""
    microseconds = int(f"{(fraction or '')[:6]:0<6}")
    midnight = hours == "24" and int(minutes) == int(seconds or 0) == microseconds == 0
    try:
        return time(0 if midnight else int(hours), int(minutes), int(seconds or 0), microseconds), midnight
    except ValueError:
        return None


def _offset(text: str) -> timedelta | None:
    if text == "Z":
        return timedelta()
    minutes = int(text[1:3]) * 60 + int(text[-2:] if len(text) > 3 else 0)
    if minutes > _OFFSET_MINUTES_MAX or (len(text) > 3 and int(text[-2:]) > 59):
        return None
    return timedelta(minutes=-minutes if text[0] == "-" else minutes)


def geopoint_of(text: str) -> tuple[float, float, float | None, float | None] | Rule:
    """Return latitude, longitude, altitude and accuracy of a text of two to four numbers."""
    words = text.split(maxsplit=4)
    if not 2 <= len(words) <= 4:
        return Rule.NOT_A_GEOPOINT
    numbers: list[float] = []
    for word in words:
        number = patient_decimal(word)
        if not isinstance(number, float):
            return Rule.NOT_A_GEOPOINT
        numbers.append(number)
    if abs(numbers[0]) > 90 or abs(numbers[1]) > 180:
        return Rule.OUT_OF_RANGE
    altitude, accuracy = (*numbers[2:], None, None)[:2]
    return numbers[0], numbers[1], altitude, accuracy


def quick_choice(choices: frozenset[str] | None) -> Quick:
    """Return a reader of one choice of those; of any, when they are not known."""

    def read(value: Any) -> Value | Odd:
        if type(value) is str:
            if choices is None:
                return value if value and len(value) <= CHOICE_CHARACTERS_MAX and not value.isspace() else ODD
            return value if value in choices else None if not value else ODD
        if type(value) is int and choices is not None and -INTEGER_MAX <= value <= INTEGER_MAX:
            text = str(value)
            return text if text in choices else ODD
        return ODD

    return read


READERS: Final[dict[AnswerType, tuple[Quick, Patient]]] = {
    AnswerType.TEXT: (quick_text, patient_text),
    AnswerType.FILE: (quick_text, patient_text),
    AnswerType.INTEGER: (quick_integer, patient_integer),
    AnswerType.DECIMAL: (quick_decimal, patient_decimal),
    AnswerType.BOOLEAN: (quick_boolean, patient_boolean),
    AnswerType.DATE: (quick_date, patient_date),
    AnswerType.TIME: (quick_other, patient_time),
    AnswerType.DATETIME: (quick_other, patient_datetime),
}
"""Selects and geopoints are read by the functions above."""
