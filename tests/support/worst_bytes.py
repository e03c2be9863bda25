"""The largest questionnaires and forms that cost the most to read.

`python -m tests.support.worst_bytes NAME MEGABYTES` reads one of them in a process that may have so many more megabytes
of address space than it has when it begins, and prints what came of it; a MemoryError ends it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from central_broker.acceptance import read_answers
from central_broker.content_decoding import Unparsable, content_of
from central_broker.forms.columns import tables_of
from central_broker.forms.definition import FormRefused
from central_broker.forms.registry import FormRegistry
from central_broker.forms.xform import read_xform
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, recognise
from sync_protocol.content import MEDIA_TYPE_JSON, MEDIA_TYPE_XML
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX, XFORM_BYTES_MAX
from tests.support.xforms import xform

_MEGABYTE: Final = 1_000_000
_FORM: Final = xform(
    "<b><c/><e/></b>",
    body='<group ref="/data/b"><repeat nodeset="/data/b"><input ref="/data/b/c"/></repeat></group>',
)


def _filled(head: bytes, unit: bytes, tail: bytes, size: int = QUESTIONNAIRE_BYTES_MAX) -> bytes:
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def _deep() -> bytes:
    levels = QUESTIONNAIRE_BYTES_MAX // len(b"<b></b>")
    return b"<b>" * levels + b"</b>" * levels


XML: Final[dict[str, Callable[[], bytes]]] = {
    "a million repeats": lambda: _filled(b'<data id="f">', b"<b><c/></b>", b"</data>"),
    "a million levels": _deep,
}
JSON: Final[dict[str, Callable[[], bytes]]] = {
    "a million lists, and a text that is mended": lambda: _filled(b'{"form":"f","a":"\\u0000","b":[', b"[],", b"1]}"),
}
FORMS: Final[dict[str, Callable[[], bytes]]] = {
    "a form of a million elements": lambda: xform(_filled(b"", b"<b/>", b"", XFORM_BYTES_MAX - 1_000).decode()),
}


def read(name: str) -> str:
    """Read one, as edge and center do, or as `forms add` does; return what came of it."""
    if name in FORMS:
        try:
            return f"a form of {len(tables_of(read_xform(FORMS[name]())).tables)} tables"
        except FormRefused as refused:
            return f"refused: {refused}"
    media_type, body = (MEDIA_TYPE_XML, XML[name]()) if name in XML else (MEDIA_TYPE_JSON, JSON[name]())
    taken = recognise(RawSubmission(body, media_type), default_form="f", bytes_max=QUESTIONNAIRE_BYTES_MAX, now=1)
    at_edge = "refused" if isinstance(taken, Unacceptable) else "taken"
    try:
        content = content_of(media_type, body)
    except Unparsable as unparsable:
        return f"{at_edge}; {unparsable}"
    registry = FormRegistry({("f", "1"): _FORM}, {("f", "1"): tables_of(read_xform(_FORM))})
    answers = read_answers("f", "1", content, registry)
    rows = 0 if answers is None else sum(len(found) for _, found in answers.rows)
    return f"{at_edge}; {rows} rows, {0 if answers is None else len(answers.findings)} findings"


def main() -> None:
    """Bound this process's memory, and read."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(sys.argv[2]) * _MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print(read(sys.argv[1]))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
