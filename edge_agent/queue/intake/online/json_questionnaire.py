"""A questionnaire as the web site writes it in JSON: read strictly, and made one as form programs submit it.

    {"form": "census_household", "version": "1", "instance_id": "uuid:…", "replaces": "uuid:…", "answers": {…}}

`version` and `replaces` may be missing. What is sealed is the text of `answers`, byte for byte, with OpenRosa's member
`meta` put before the others; so the center reads it as it reads the same questionnaire from a form program.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edge_agent.queue.intake.openrosa.answers import Outcome
from edge_agent.queue.intake.openrosa.receiving import Refusal
from edge_agent.queue.intake.recognition import RawSubmission, json_problem
from sync_protocol.content import MEDIA_TYPE_JSON
from sync_protocol.limits import KIBIBYTE, NAME_CHARACTERS_MAX

JSON_BYTES_MAX: Final = 1024 * KIBIBYTE
"""Of one request: a household has some kilobytes, and each connection may hold as much in memory."""

_META: Final = "meta"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    form: str
    instance_id: str
    answers: dict[str, msgspec.Raw]
    version: str = ""
    replaces: str = ""


class _Answers(msgspec.Struct):
    answers: msgspec.Raw


class _Meta(msgspec.Struct, omit_defaults=True):
    instanceID: str  # OpenRosa's names
    deprecatedID: str = ""


def read_questionnaire(body: bytes) -> tuple[RawSubmission, bool]:
    """Return what the intake takes, and whether it is an edit; raises Refusal with what is wrong."""
    problem = json_problem(body)
    if problem is not None:
        raise Refusal(Outcome.BAD_JSON, problem)
    try:
        document = msgspec.json.decode(body, type=_Document)
        answers = bytes(msgspec.json.decode(body, type=_Answers).answers).strip()
    except msgspec.DecodeError as error:
        raise Refusal(Outcome.BAD_JSON, str(error)) from None
    named = {"form": document.form, "version": document.version, "instance_id": document.instance_id}
    for member, text in (named | {"replaces": document.replaces}).items():
        if len(text) > NAME_CHARACTERS_MAX or not text.isprintable() or text != text.strip():
            problem = f"{member} is longer than {NAME_CHARACTERS_MAX} characters, not printable or has spaces around it"
            raise Refusal(Outcome.BAD_JSON, problem)
    if not document.form:
        raise Refusal(Outcome.BAD_JSON, "form is empty")
    if not document.answers:
        raise Refusal(Outcome.BAD_JSON, "there are no answers in it")
    if _META in document.answers:
        problem = "answers have a member meta, which is made of instance_id and replaces; leave it out"
        raise Refusal(Outcome.BAD_JSON, problem)
    if document.replaces == document.instance_id:
        raise Refusal(Outcome.BAD_JSON, "it replaces itself; an edit has an instance_id of its own")
    meta = msgspec.json.encode(_Meta(document.instance_id, document.replaces))
    sealed = b'{"%s":%s,%s' % (_META.encode(), meta, answers.removeprefix(b"{"))
    raw = RawSubmission(sealed, MEDIA_TYPE_JSON, document.form, document.version, document.instance_id)
    return raw, bool(document.replaces)
