"""Identity numbers of Kazakhstan: IIN (of people) and BIN (of organisations), twelve digits with a check digit.

The check digit: digits 1 to 11 weighted 1 to 11, modulo 11; where that is 10, weighted 3 to 11, 1, 2; where that is 10
again, no number is given out. An IIN begins with the birth date, YYMMDD; its seventh digit tells century and sex.
Source: the annex on forming the number to the law on national registers of identification numbers (No. 223-III of
12 January 2007).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_TWELVE_DIGITS: Final = re.compile(r"[0-9]{12}", re.ASCII)
_WEIGHTS: Final = ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2))
_CENTURIES: Final = {"1": 1800, "2": 1800, "3": 1900, "4": 1900, "5": 2000, "6": 2000}
_OF_A_FOREIGNER: Final = "0"


def identity_number(written: str | None) -> str | None:
    """Return a person's number without the spaces and dashes that people write in it; None unless it is one."""
    digits = _checked(written)
    if digits is None or (digits[6] != _OF_A_FOREIGNER and birth_date_of(digits) is None):
        return None
    return None if digits[:6] == "000000" else digits


def organisation_number(written: str | None) -> str | None:
    """Return an organisation's number likewise; None unless it is one."""
    digits = _checked(written)
    return None if digits is None or not 1 <= int(digits[2:4]) <= 12 else digits


def birth_date_of(number: str) -> date | None:
    """Return the birth date that a person's number says; None where it says none."""
    century = _CENTURIES.get(number[6])
    if century is None:
        return None
    try:
        return date(century + int(number[:2]), int(number[2:4]), int(number[4:6]))
    except ValueError:
        return None


def _checked(written: str | None) -> str | None:
    digits = re.sub(r"[\s-]", "", written or "")
    if not _TWELVE_DIGITS.fullmatch(digits):
        return None
    for weights in _WEIGHTS:
        remainder = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=False)) % 11
        if remainder < 10:
            return digits if remainder == int(digits[11]) else None
    return None
