"""Rows of the census tables made anew, from questionnaires as they were received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from central_broker.acceptance import read_answers
from central_broker.content_decoding import Unparsable, content_of
from central_broker.forms.registry import FormRegistry
from central_broker.storage.batch_records import QuestionnaireContent
from central_broker.storage.census_records import StoredQuestionnaire
from central_broker.storage.contract import Storage

_PAGE_QUESTIONNAIRES: Final = 200
_FIRST: Final = (b"", b"")


@dataclass
class Reprocessed:
    """How many questionnaires became rows, or did not: of a version that the center knows by name, or unreadable."""

    made: int = 0
    without_definition: int = 0
    unreadable: int = 0

    def document(self) -> dict[str, int]:
        """Return this for a program."""
        return asdict(self)


def reprocess_form(storage: Storage, form: str, on_progress: Callable[[int], None]) -> Reprocessed:
    """Replace the rows of every questionnaire of a form, a page of them in each transaction.

    Raises StorageUnavailable; what was done until then stays done, and may be done again.
    """
    registry = known_forms(storage, FormRegistry())
    result, after = Reprocessed(), _FIRST
    while page := storage.questionnaires(form, after, _PAGE_QUESTIONNAIRES):
        replaced: list[tuple[StoredQuestionnaire, QuestionnaireContent]] = []
        for one in page:
            content = _read(form, one, registry, result)
            if content is not None:
                replaced.append((one, content))
        storage.replace_answers(form, replaced)
        after = (page[-1].origin, page[-1].id)
        on_progress(len(page))
    return result


def known_forms(storage: Storage, before: FormRegistry) -> FormRegistry:
    """Return the registry of the forms in the database, made of the one before where they are the same."""
    xforms = [((one.form, one.version), one.xform) for one in storage.form_records() if one.xform is not None]
    return before.renewed(xforms, storage.form_tables)


def _read(
    form: str, one: StoredQuestionnaire, registry: FormRegistry, result: Reprocessed
) -> QuestionnaireContent | None:
    try:
        text = content_of(one.media_type, one.body)
    except Unparsable:
        result.unreadable += 1
        return None
    answers = read_answers(form, one.form_version, text, registry)
    if answers is None:
        result.without_definition += 1
    else:
        result.made += 1
    return QuestionnaireContent(
        form, one.form_version, one.instance_id, one.media_type, one.created_at, one.body, text, answers
    )
