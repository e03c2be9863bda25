"""ODK XForm XML to a form definition: https://getodk.github.io/xforms-spec/. Pure.

Elements and attributes are known by their local names, as clients and older converters differ in namespaces. Conditions
and calculations are not evaluated. Not responsible for telling whether clients can show the form (ODK Validate does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as defused
from defusedxml.common import DefusedXmlException

from central_broker.forms.definition import AnswerType, FormDefinition, FormRefused, Path, Question, Repeat
from central_broker.forms.xform_body import Control, controls_of, local_name, plain_path
from sync_protocol.limits import FORM_TITLE_CHARACTERS_MAX, JSON_DEPTH_MAX, NAME_CHARACTERS_MAX, XFORM_BYTES_MAX

XML_DEPTH_MAX: Final = 4 * JSON_DEPTH_MAX
"""Controls nest deeper than the answers that they are for: a repeat lies in a group, a label in a control."""

QUESTIONS_MAX: Final = 5_000
"""Ten times the longest household survey; each becomes a column."""


_TYPES: Final[Mapping[str, AnswerType]] = {
    "int": AnswerType.INTEGER,
    "integer": AnswerType.INTEGER,
    "long": AnswerType.INTEGER,
    "short": AnswerType.INTEGER,
    "nonNegativeInteger": AnswerType.INTEGER,
    "positiveInteger": AnswerType.INTEGER,
    "decimal": AnswerType.DECIMAL,
    "double": AnswerType.DECIMAL,
    "float": AnswerType.DECIMAL,
    "boolean": AnswerType.BOOLEAN,
    "date": AnswerType.DATE,
    "time": AnswerType.TIME,
    "dateTime": AnswerType.DATETIME,
    "geopoint": AnswerType.GEOPOINT,
    "select1": AnswerType.SELECT_ONE,
    "select": AnswerType.SELECT_MULTIPLE,
    "binary": AnswerType.FILE,
    "base64Binary": AnswerType.FILE,
}
"""All others (string, barcode, geotrace, geoshape, odk:rank, intent …) are read as text."""

_BY_CONTROL: Final[Mapping[str, AnswerType]] = {"select1": AnswerType.SELECT_ONE, "upload": AnswerType.FILE}
_SELECTS: Final = frozenset({AnswerType.SELECT_ONE, AnswerType.SELECT_MULTIPLE})
_TRUE: Final = re.compile(r"\s*true\s*\(\s*\)\s*")
_META: Final = "meta"
_PRELOADS: Final = ("preload", "calculate")


class _Node:
    """An element of the primary instance, with what the binds say of it; siblings of one name are one node."""

    __slots__ = ("bind", "children", "default")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.bind: dict[str, str] = {}
        self.default = False
        """It comes with a value: in the instance itself, or by a setvalue."""


def read_xform(data: bytes) -> FormDefinition:
    """Return the definition; raises FormRefused, and nothing else, for whatever is not a form."""
    root = _parse(data)
    model = _first(root, "model")
    instance = None if model is None else _child(model, "instance")
    primary = None if instance is None or not len(instance) else instance[0]
    if model is None or primary is None:
        raise FormRefused(
            "the file is XML, but has no model with a primary instance", "give an ODK XForm or an XLSForm"
        )
    form = (primary.get("id") or "").strip()
    version = next((primary.attrib[name].strip() for name in primary.attrib if local_name(name) == "version"), "")
    if not form:
        raise FormRefused(
            "the form has no id: the first element of its primary instance lacks the attribute id",
            "give it one (form_id on the settings sheet of an XLSForm)",
        )
    for what, text in (("id", form), ("version", version)):
        if len(text) > NAME_CHARACTERS_MAX:
            raise FormRefused(f"the form's {what} is longer than {NAME_CHARACTERS_MAX} characters", "shorten it")
    name = local_name(primary.tag)
    tree = _Node()
    _grow(tree, primary, 1)
    binds = _binds(model, name, tree)
    body = _child(root, "body")
    controls, groups, repeats = controls_of(body, model, name, binds)
    _check_known(tree, (*controls, *repeats))
    _check_known(tree, groups)
    questions = tuple(_questions(tree, (), controls, groups | repeats, relevant=True))
    if len(questions) > QUESTIONS_MAX:
        raise FormRefused(
            f"the form has {len(questions)} questions, more than {QUESTIONS_MAX}", "divide it into several"
        )
    return FormDefinition(
        form=form,
        version=version,
        title=_title(root) or form,
        root=name,
        questions=questions,
        repeats=tuple(Repeat(path) for path in _paths(tree, ()) if path in repeats),
    )


def _parse(data: bytes) -> Element:
    if len(data) > XFORM_BYTES_MAX:
        raise FormRefused(
            f"the form has {len(data)} bytes, more than {XFORM_BYTES_MAX}",
            "move long lists of choices into a file beside the form (select_one_from_file)",
        )
    try:
        root: Element = defused.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise FormRefused(
            "the form declares a document type or entities, which are not accepted", "remove the declaration"
        ) from None
    except ParseError as error:
        line, column = error.position
        raise FormRefused(
            f"the file is not XML: line {line}, column {column}", "give an ODK XForm, or an XLSForm with its extension"
        ) from None
    except (ValueError, LookupError):  # an encoding that is not known, or does not fit
        raise FormRefused("the form's XML encoding cannot be read", "save it as UTF-8") from None
    level = [root]
    for _ in range(XML_DEPTH_MAX):
        level = [child for element in level for child in element]
        if not level:
            return root
    raise FormRefused(f"the form nests deeper than {XML_DEPTH_MAX} levels", "lay it out with fewer groups in groups")


def _first(root: Element, name: str) -> Element | None:
    return next((element for element in root.iter() if local_name(element.tag) == name), None)


def _child(element: Element, name: str) -> Element | None:
    return next((child for child in element if local_name(child.tag) == name), None)


def _title(root: Element) -> str:
    head = _child(root, "head")
    title = None if head is None else _child(head, "title")
    return "" if title is None else " ".join("".join(title.itertext()).split())[:FORM_TITLE_CHARACTERS_MAX]


def _grow(node: _Node, element: Element, depth: int) -> None:
    # One level is left for what the content adds around and below the answers.
    if depth >= JSON_DEPTH_MAX - 2:
        raise FormRefused(
            f"the form's answers nest deeper than {JSON_DEPTH_MAX - 3} levels", "lay it out with fewer groups in groups"
        )
    node.default = node.default or bool((element.text or "").strip())
    for child in element:
        _grow(node.children.setdefault(local_name(child.tag), _Node()), child, depth + 1)


def _find(tree: _Node, path: Path) -> _Node | None:
    node: _Node | None = tree
    for name in path:
        node = None if node is None else node.children.get(name)
    return node


def _binds(model: Element, root_name: str, tree: _Node) -> Mapping[str, Path]:
    """Hang every bind on its node; return the paths of those with an id, by which controls of old forms name them."""
    named: dict[str, Path] = {}
    for bind in model:
        kind = local_name(bind.tag)
        if kind not in ("bind", "setvalue"):
            continue
        path = plain_path(bind.get("nodeset") or bind.get("ref") or "", root_name)
        if path is None:  # wildcards and other expressions: nothing that clients of the field write
            continue
        node = _find(tree, path)
        if node is None:
            raise FormRefused(
                f"the form binds /{root_name}/{'/'.join(path)}, which its primary instance does not have",
                "correct the nodeset, or convert the XLSForm anew",
            )
        if kind == "setvalue":
            node.default = True
            continue
        node.bind |= {local_name(name): value for name, value in bind.attrib.items()}
        if "id" in bind.attrib:
            named[bind.attrib["id"]] = path
    return named


def _check_known(tree: _Node, paths: tuple[Path, ...] | frozenset[Path]) -> None:
    for path in paths:
        if _find(tree, path) is None:
            raise FormRefused(
                f"the form's body refers to {'/'.join(path)}, which its primary instance does not have",
                "correct the ref or nodeset, or convert the XLSForm anew",
            )


def _paths(node: _Node, path: Path) -> Iterator[Path]:
    yield path
    for name, child in node.children.items():
        yield from _paths(child, (*path, name))


def _questions(
    node: _Node, path: Path, controls: Mapping[Path, Control], groups: frozenset[Path], *, relevant: bool
) -> Iterator[Question]:
    """Yield the questions below a node; `relevant` is false below a condition."""
    for name, child in node.children.items():
        below = (*path, name)
        if name == _META and (not path or "entity" in child.children):
            continue
        always = relevant and ("relevant" not in child.bind or bool(_TRUE.fullmatch(child.bind["relevant"])))
        if child.children:
            yield from _questions(child, below, controls, groups, relevant=always)
        elif below not in groups and not _is_note(child, controls.get(below)):
            yield _question(below, child.bind, controls.get(below), always=always)


def _is_note(node: _Node, control: Control | None) -> bool:
    """Tell whether a read-only leaf shows a text only: nothing calculates, preloads or presets a value for it."""
    if control is None or control.name != "input" or node.default or any(name in node.bind for name in _PRELOADS):
        return False
    return bool(_TRUE.fullmatch(node.bind.get("readonly", "")))


def _question(path: Path, bind: Mapping[str, str], control: Control | None, *, always: bool) -> Question:
    name = bind.get("type", "string").strip().rpartition(":")[2]
    kind = _TYPES.get(name, AnswerType.TEXT)
    # Today's converters bind a select to string, and only its control tells; those of 2012 bound it to select1.
    if control is not None and control.name == "select":
        kind = AnswerType.SELECT_MULTIPLE
    elif control is not None and (kind is AnswerType.TEXT or kind in _SELECTS):
        kind = _BY_CONTROL.get(control.name, kind)
    return Question(
        path=path,
        type=kind,
        choices=control.choices if control is not None and kind in _SELECTS else None,
        required=always and bool(_TRUE.fullmatch(bind.get("required", ""))),
    )
