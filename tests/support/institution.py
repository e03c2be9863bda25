"""An institution of the census: its list, and questionnaires about its people, as form programs write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from xml.sax.saxutils import escape

BIN = "010640000002"
_WEIGHTS: tuple[tuple[int, ...], ...] = (tuple(range(1, 12)), (*range(3, 12), 1, 2))
_SURNAMES = ("Ахметов", "Сәдуақасов", "Иванов", "Ким", "Жұмабаев", "Шмидт", "Королёв", "Өтегенов", "Бөкейханов", "Цой")
_GIVEN = ("Ерлан", "Әйгерім", "Пётр", "Анна", "Қайрат", "Гүлнәр", "Иван", "Мария", "Нұрлан", "Ольга")


def check_digit(eleven: str) -> int | None:
    """The twelfth digit; None for digits that no number begins with."""
    for weights in _WEIGHTS:
        remainder = sum(weight * int(digit) for weight, digit in zip(weights, eleven, strict=True)) % 11
        if remainder < 10:
            return remainder
    return None


def iin_of(born: date, serial: int) -> str:
    """A valid number of this birth date, another for every serial number."""
    century = {18: 1, 19: 3, 20: 5}[born.year // 100]
    while True:
        eleven = f"{born:%y%m%d}{century}{serial:04}"
        digit = check_digit(eleven)
        if digit is not None:
            return f"{eleven}{digit}"
        serial += 5000


@dataclass(frozen=True)
class Someone:
    """A person as a form asks for one."""

    surname: str
    given_name: str
    born: date | None
    iin: str | None
    proxy: str = "self"

    def xml(self, element: str, group: str | None) -> str:
        said = {
            "surname": self.surname,
            "given_name": self.given_name,
            "birth_date": "" if self.born is None else self.born.isoformat(),
            "iin": self.iin or "",
        }
        if group is not None:
            said["proxy"] = self.proxy
        answers = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in said.items() if value)
        inner = answers if group is None else f"<{group}>{answers}</{group}>"
        return f"<{element}>{inner}</{element}>"


def someone(number: int) -> Someone:
    """The same person for a number, another for another."""
    born = date(1930, 1, 1) + timedelta(days=number * 100)
    surname, given = _SURNAMES[number % 10], _GIVEN[number // 10 % 10]
    return Someone(f"{surname}-{_word(number)}", given, born, iin_of(born, number))


def _word(number: int) -> str:
    return "".join("абвгдежзкл"[int(digit)] for digit in f"{number:03}")


def institution_list(
    version: str, people: Iterable[Someone], *, instance: str, bin_: str = BIN, replaces: str = ""
) -> bytes:
    """A list of stage 1."""
    listed = "".join(one.xml("people", None) for one in people)
    return _document(
        "census_institution",
        version,
        instance,
        f"<address>{_address(bin_)}</address><list><list_as_of>2021-07-01</list_as_of></list>{listed}",
        replaces,
    )


def household(
    version: str,
    people: Iterable[Someone],
    *,
    instance: str,
    day: str = "2021-10-05",
    channel: str = "interview",
    interviewer: str = "7",
    bin_: str | None = BIN,
    district: str = "Аккайынский район",
    replaces: str = "",
    notice: str = "",
    form: str = "census_household",
) -> bytes:
    """A questionnaire of people in the institution, or in a dwelling where `bin_` is None."""
    persons = "".join(one.xml("persons", "identity") for one in people)
    online = f"<online><counted_online>1</counted_online><notification_number>{notice}</notification_number></online>"
    return _document(
        form,
        version,
        instance,
        f"<visit><channel>{channel}</channel><interview_date>{day}</interview_date>"
        f"<interviewer_number>{interviewer}</interviewer_number></visit>"
        f"<address>{_address(bin_, district)}</address>{online if notice else ''}{persons}",
        replaces,
    )


def _address(bin_: str | None, district: str = "Аккайынский район") -> str:
    where = f"<region>59</region><district>{escape(district)}</district>"
    return f"{where}<place_kind>{1 if bin_ is None else 2}</place_kind>" + (
        f"<institution_bin>{bin_}</institution_bin>" if bin_ else ""
    )


def _document(form: str, version: str, instance: str, answers: str, replaces: str = "") -> bytes:
    edited = f"<deprecatedID>{replaces}</deprecatedID>" if replaces else ""
    meta = f"<meta><instanceID>{instance}</instanceID>{edited}</meta>"
    return f"<data id='{form}' version='{version}'>{answers}{meta}</data>".encode()
