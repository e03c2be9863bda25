"""What a client of the endpoint is told: status, OpenRosa headers, and one sentence in its language.

Codes follow ODK Central's where it has the same case. The message's `nature` is for programs: submit_success or
submit_error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum, auto
from typing import Final
from xml.sax.saxutils import escape

from sync_protocol.notice import Notice

LANGUAGES: Final = ("en", "ru", "kk")
XML: Final = "text/xml; charset=utf-8"
NOTICE_NAMESPACE: Final = "urn:census-sync:notice"


class Outcome(Enum):
    """How a request ended."""

    TAKEN = auto()
    REPEATED = auto()
    STAGED = auto()
    MALFORMED = auto()
    NO_XML = auto()
    BAD_XML = auto()
    BAD_JSON = auto()
    WRONG_KEY = auto()
    WRONG_TOKEN = auto()
    FOREIGN_PAGE = auto()
    NOT_FOUND = auto()
    NOT_ALLOWED = auto()
    TOO_SLOW = auto()
    CONFLICT = auto()
    TOO_LARGE = auto()
    NOT_MULTIPART = auto()
    NOT_JSON = auto()
    WRONG_HOST = auto()
    UNACCEPTABLE = auto()
    NOT_NOW = auto()
    DISK_FULL = auto()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUS[self]

    @property
    def is_success(self) -> bool:
        return self.status < 300


_STATUS: Final[Mapping[Outcome, int]] = {
    Outcome.TAKEN: 201,
    Outcome.REPEATED: 201,
    Outcome.STAGED: 202,
    Outcome.MALFORMED: 400,
    Outcome.NO_XML: 400,
    Outcome.BAD_XML: 400,
    Outcome.BAD_JSON: 400,
    Outcome.WRONG_KEY: 401,
    Outcome.WRONG_TOKEN: 401,
    Outcome.FOREIGN_PAGE: 403,
    Outcome.NOT_FOUND: 404,
    Outcome.NOT_ALLOWED: 405,
    Outcome.TOO_SLOW: 408,
    Outcome.CONFLICT: 409,
    Outcome.TOO_LARGE: 413,
    Outcome.NOT_MULTIPART: 415,
    Outcome.NOT_JSON: 415,
    Outcome.WRONG_HOST: 421,
    Outcome.UNACCEPTABLE: 422,
    Outcome.NOT_NOW: 503,
    Outcome.DISK_FULL: 507,
}

_SENTENCES: Final[Mapping[Outcome, tuple[str, str, str]]] = {
    Outcome.TAKEN: (
        "The questionnaire is accepted and safe on this device.",
        "Анкета принята и надёжно сохранена на этом устройстве.",
        "Сауалнама қабылданды және осы құрылғыда сенімді сақталды.",
    ),
    Outcome.REPEATED: (
        "This questionnaire was accepted before; it counts once.",
        "Эта анкета уже была принята; она учитывается один раз.",
        "Бұл сауалнама бұрын қабылданған; ол бір рет есептеледі.",
    ),
    Outcome.STAGED: (
        "This part is safe on this device; the rest is awaited.",
        "Эта часть надёжно сохранена на этом устройстве; ожидаются остальные.",
        "Бұл бөлік осы құрылғыда сенімді сақталды; қалғандары күтілуде.",
    ),
    Outcome.MALFORMED: (
        "The request is damaged. Send it again.",
        "Запрос повреждён. Отправьте ещё раз.",
        "Сұрау бүлінген. Қайтадан жіберіңіз.",
    ),
    Outcome.NO_XML: (
        "The request has no part xml_submission_file, or more than one. Update the form program.",
        "В запросе нет части xml_submission_file или их несколько. Обновите программу анкетирования.",
        "Сұрауда xml_submission_file бөлігі жоқ немесе бірнешеу. Сауалнама бағдарламасын жаңартыңыз.",
    ),
    Outcome.BAD_XML: (
        "The questionnaire's XML cannot be accepted.",
        "XML анкеты не может быть принят.",
        "Сауалнаманың XML-і қабылданбайды.",
    ),
    Outcome.BAD_JSON: (
        "The questionnaire's JSON cannot be accepted. Correct it, and send it again.",
        "JSON анкеты не может быть принят. Исправьте его и отправьте ещё раз.",
        "Сауалнаманың JSON-ы қабылданбайды. Оны түзетіп, қайтадан жіберіңіз.",
    ),
    Outcome.WRONG_KEY: (
        "The key in the address is not this device's. Ask for the address: edge-agent status.",
        "Ключ в адресе не от этого устройства. Узнайте адрес: edge-agent status.",
        "Мекенжайдағы кілт бұл құрылғыдікі емес. Мекенжайды біліңіз: edge-agent status.",
    ),
    Outcome.WRONG_TOKEN: (
        "The token is missing or not known here. Send the header Authorization: Bearer and a token in force.",
        "Токен отсутствует или неизвестен. Отправьте заголовок Authorization: Bearer с действующим токеном.",
        "Токен жоқ немесе белгісіз. Authorization: Bearer тақырыбын қолданыстағы токенмен жіберіңіз.",
    ),
    Outcome.FOREIGN_PAGE: (
        "This web page may not use the endpoint. The operator can allow it: intake.openrosa_origins.",
        "Этой веб-странице не разрешён доступ. Оператор может разрешить: intake.openrosa_origins.",
        "Бұл веб-бетке рұқсат жоқ. Оператор рұқсат бере алады: intake.openrosa_origins.",
    ),
    Outcome.NOT_FOUND: (
        "There is nothing at this address.",
        "По этому адресу ничего нет.",
        "Бұл мекенжайда ештеңе жоқ.",
    ),
    Outcome.NOT_ALLOWED: (
        "This address does not take such a request.",
        "По этому адресу такой запрос не принимается.",
        "Бұл мекенжай мұндай сұрауды қабылдамайды.",
    ),
    Outcome.TOO_SLOW: (
        "The request did not arrive in time. Send it again.",
        "Запрос не пришёл вовремя. Отправьте ещё раз.",
        "Сұрау уақытында келмеді. Қайтадан жіберіңіз.",
    ),
    Outcome.CONFLICT: (
        "Another questionnaire with the same instanceID was accepted before. Keep this one and call the center.",
        "Ранее принята другая анкета с тем же instanceID. Сохраните эту анкету и позвоните в центр.",
        "Осы instanceID-мен басқа сауалнама бұрын қабылданған. Бұл сауалнаманы сақтап, орталыққа қоңырау шалыңыз.",
    ),
    Outcome.TOO_LARGE: (
        "The questionnaire with its attachments is too large. Make the photographs smaller.",
        "Анкета с вложениями слишком велика. Уменьшите фотографии.",
        "Қосымшаларымен бірге сауалнама тым үлкен. Фотосуреттерді кішірейтіңіз.",
    ),
    Outcome.NOT_MULTIPART: (
        "Submissions come as multipart/form-data. Update the form program.",
        "Анкеты отправляются как multipart/form-data. Обновите программу анкетирования.",
        "Сауалнамалар multipart/form-data түрінде жіберіледі. Сауалнама бағдарламасын жаңартыңыз.",
    ),
    Outcome.NOT_JSON: (
        "Questionnaires come to this address as application/json, one in a request.",
        "По этому адресу анкеты принимаются как application/json, по одной в запросе.",
        "Бұл мекенжайға сауалнамалар application/json түрінде, сұрауға бір-бірден жіберіледі.",
    ),
    Outcome.WRONG_HOST: (
        "This address is for programs on this device only: use 127.0.0.1 or localhost.",
        "Этот адрес только для программ на этом устройстве: используйте 127.0.0.1 или localhost.",
        "Бұл мекенжай тек осы құрылғыдағы бағдарламаларға: 127.0.0.1 немесе localhost қолданыңыз.",
    ),
    Outcome.UNACCEPTABLE: (
        "The questionnaire cannot be accepted.",
        "Анкета не может быть принята.",
        "Сауалнама қабылданбайды.",
    ),
    Outcome.NOT_NOW: (
        "The questionnaire cannot be accepted just now. Keep it, and send it again later.",
        "Сейчас анкету принять нельзя. Сохраните её и отправьте позже.",
        "Сауалнаманы қазір қабылдау мүмкін емес. Оны сақтап, кейінірек жіберіңіз.",
    ),
    Outcome.DISK_FULL: (
        "The disk of this device is nearly full. Keep the questionnaire, free some space, and send it again.",
        "Диск этого устройства почти заполнен. Сохраните анкету, освободите место и отправьте ещё раз.",
        "Бұл құрылғының дискісі толуға жақын. Сауалнаманы сақтап, орын босатып, қайтадан жіберіңіз.",
    ),
}


@dataclass(frozen=True)
class Answer:
    """An outcome, and what a technician wants to know of it (in English; never an answer of a respondent)."""

    outcome: Outcome
    detail: str = ""
    notice: Notice | None = None
    """That the respondent has been counted; of a questionnaire that was filled online, and accepted."""


def sentence(outcome: Outcome, language: str) -> str:
    """Return what the outcome reads like in one of LANGUAGES."""
    return _SENTENCES[outcome][LANGUAGES.index(language)]


def response_xml(answer: Answer, language: str) -> bytes:
    """Return the OpenRosaResponse document; clients pass over what they do not know behind the message."""
    said = sentence(answer.outcome, language) + (f" ({answer.detail})" if answer.detail else "")
    nature = "submit_success" if answer.outcome.is_success else "submit_error"
    visible = "".join(letter if letter.isprintable() else "?" for letter in said)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<OpenRosaResponse xmlns="http://openrosa.org/http/response">'
        f'<message nature="{nature}">{escape(visible)}</message>{_notice_xml(answer.notice)}</OpenRosaResponse>\n'
    ).encode()


def _notice_xml(notice: Notice | None) -> str:
    if notice is None:
        return ""
    return f'<notice xmlns="{NOTICE_NAMESPACE}" number="{notice.number}" token="{notice.token}"/>'


def language_of(accept_language: str) -> str:
    """Return the first of LANGUAGES that the header asks for, in its own order; English when it asks for none."""
    for wanted in accept_language[:200].lower().split(","):
        language = wanted.strip()[:2]
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def openrosa_headers(now: int, content_bytes_max: int) -> dict[str, str]:
    """Return what every answer carries; `now` in microseconds."""
    return {
        "X-OpenRosa-Version": "1.0",
        "X-OpenRosa-Accept-Content-Length": str(content_bytes_max),
        "Date": formatdate(now / 1_000_000, usegmt=True),
        "Cache-Control": "no-cache",
    }
