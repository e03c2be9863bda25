"""Joined questionnaires that could not be read, read again: after the center has learnt to."""

from __future__ import annotations

from collections.abc import Sequence

from central_broker.storage.answering import CensusKey, insert_answers
from central_broker.storage.batch_records import PartContent, Unreadable, WholeDecoder
from central_broker.storage.coverage import FORGET
from central_broker.storage.recording import Statements


def reread_wholes(statements: Statements, held_ids: Sequence[bytes], decode_whole: WholeDecoder) -> int:
    """Fill in the content of those that can be read now, and hold them no more; return how many."""
    readable = 0
    for held_id in held_ids:
        rows = statements.execute(
            "SELECT q.origin, q.id, q.form, q.form_version, q.instance_id, q.media_type, q.created_at, q.parts, q.body,"
            " q.whole_digest, q.batch FROM held h JOIN questionnaire q ON q.origin = h.origin AND q.id = h.envelope_id"
            " WHERE h.id = %s AND h.whole = 1",
            (held_id,),
        )
        if not rows:
            continue
        origin, envelope_id, form, version, instance_id, media_type, created_at, parts, body, digest, batch = rows[0]
        part = PartContent(form, version, instance_id, media_type, created_at, b"", 1, parts, digest, b"")
        content = decode_whole(part, bytes(body))
        if isinstance(content, Unreadable):
            continue
        statements.set_content(bytes(origin), bytes(envelope_id), content)
        key = CensusKey(bytes(origin), bytes(envelope_id), batch, version, instance_id)
        insert_answers(statements, [(key, content)])
        statements.execute(FORGET)
        statements.delete_held([held_id])
        readable += 1
    return readable
