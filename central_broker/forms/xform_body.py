"""The body of an XForm: which control asks for which node, and the choices that it offers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from central_broker.forms.definition import Path

_CONTROLS: Final = frozenset({"input", "select", "select1", "upload", "range", "trigger", "rank", "secret", "textarea"})
_STEP: Final = re.compile(r"(?:[\w.\-]+:)?([\w.\-]+)")
_INSTANCE: Final = re.compile(r"""\s*(?:randomize\s*\(\s*)?instance\(\s*['"]([^'"]*)['"]\s*\)([^\[,)]*)""")
_SEARCH: Final = re.compile(r"\bsearch\s*\(")


@dataclass(frozen=True, slots=True)
class Control:
    """A control by its local name; `choices` None where it offers none, or they cannot be told from the form."""

    name: str
    choices: frozenset[str] | None = None


def local_name(name: object) -> str:
    """Return a tag or attribute name without its namespace; empty for comments and the like."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def plain_path(expression: str, root_name: str) -> Path | None:
    """Return the path below the root of an absolute expression of names only; None for any other."""
    steps = expression.strip().split("/")
    names = [_STEP.fullmatch(step.strip()) for step in steps[1:]]
    if steps[0] or not names or not all(names):
        return None
    path = tuple(name[1] for name in names if name is not None)
    return path[1:] if path[0] == root_name else None


def controls_of(
    body: Element | None, model: Element, root_name: str, binds: Mapping[str, Path]
) -> tuple[dict[Path, Control], frozenset[Path], frozenset[Path]]:
    """Return what the body asks: controls by path, the paths of groups, and those of repeats.

    `binds` are the paths of binds by their ids. Expressions that are not plain paths are passed over.
    """
    lists = _Lists(model)
    controls: dict[Path, Control] = {}
    groups: set[Path] = set()
    repeats: set[Path] = set()
    for element in () if body is None else body.iter():
        name = local_name(element.tag)
        expression = element.get("nodeset") or element.get("ref") or ""
        path = binds.get(element.get("bind", "")) or plain_path(expression, root_name)
        if not path:
            continue
        if name == "repeat":
            repeats.add(path)
        elif name == "group":
            groups.add(path)
        elif name in _CONTROLS:
            found = Control(name, _choices(element, lists) if name.startswith("select") else None)
            controls[path] = _either(controls[path], found) if path in controls else found
    return controls, frozenset(groups), frozenset(repeats)


def _either(one: Control, other: Control) -> Control:
    """Two controls may ask for one node, each where it is relevant: a choice of any of them is a choice."""
    if one.choices is other.choices or one.choices is None or other.choices is None:
        return Control(one.name, one.choices and other.choices)
    return Control(one.name, one.choices | other.choices)


def _choices(control: Element, lists: _Lists) -> frozenset[str] | None:
    if _SEARCH.search(control.get("appearance", "")):
        return None  # the items given are a pattern for those of a file beside the form
    written: set[str] = set()
    offered: list[frozenset[str]] = []
    for element in control.iter():
        name = local_name(element.tag)
        if name == "item":
            written |= {_text(child) for child in element if local_name(child.tag) == "value"}
        elif name == "itemset":
            value = next((child.get("ref", "") for child in element if local_name(child.tag) == "value"), "")
            names = lists.names(element.get("nodeset", ""), value)
            if names is None:
                return None
            offered.append(names)
    written.discard("")
    if len(offered) == 1 and not written:
        return offered[0]  # shared: a form may ask many questions over one list of 50,000 villages
    return frozenset(written).union(*offered) or None


def _text(element: Element) -> str:
    return (element.text or "").strip()


class _Lists:
    """The secondary instances of a form; each list is read once, as a form has many controls over few lists."""

    def __init__(self, model: Element) -> None:
        instances = [child for child in model if local_name(child.tag) == "instance"][1:]
        self._instances = {instance.get("id", ""): instance for instance in instances}
        self._names: dict[tuple[str, str, str], frozenset[str] | None] = {}

    def names(self, nodeset: str, value: str) -> frozenset[str] | None:
        """Return the values of all items of a list, whatever filters it; None when the form does not hold them."""
        match = _INSTANCE.match(nodeset)
        value_step = _STEP.fullmatch(value.strip())
        if match is None or value_step is None:
            return None
        key = (match[1], match[2].strip(), value_step[1])
        if key not in self._names:
            self._names[key] = self._read(*key)
        return self._names[key]

    def _read(self, instance_id: str, steps: str, value: str) -> frozenset[str] | None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.get("src"):
            return None
        level = [instance]
        for step in steps.split("/")[1:]:
            name = _STEP.fullmatch(step.strip())
            if name is None:
                return None
            level = [child for element in level for child in element if local_name(child.tag) == name[1]]
        names = {_text(child) for item in level for child in item if local_name(child.tag) == value}
        names.discard("")
        return frozenset(names) or None
