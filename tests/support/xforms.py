"""XForm XML for tests: only what a test is about has to be said."""

from __future__ import annotations

from central_broker.forms.columns import FormTables, tables_of
from central_broker.forms.definition import AnswerType, FormDefinition, Path, Question, Repeat

_XFORM = """<?xml version="1.0"?>
<h:html xmlns="http://www.w3.org/2002/xforms" xmlns:h="http://www.w3.org/1999/xhtml"
 xmlns:jr="http://openrosa.org/javarosa" xmlns:orx="http://openrosa.org/xforms" xmlns:odk="http://www.opendatakit.org/xforms">
<h:head><h:title>{title}</h:title><model>
<instance><data id="f" version="1">{instance}<orx:meta><orx:instanceID/></orx:meta></data></instance>
{lists}{binds}</model></h:head><h:body>{body}</h:body></h:html>"""


def xform(instance: str, *, binds: str = "", body: str = "", lists: str = "", title: str = "T") -> bytes:
    """Return an XForm with these elements in its primary instance, binds, controls and further instances."""
    return _XFORM.format(instance=instance, binds=binds, body=body, lists=lists, title=title).encode()


def definition(*questions: Question, repeats: tuple[Path, ...] = (), form: str = "f") -> FormDefinition:
    """Return a definition with these questions and repeats."""
    return FormDefinition(form, "1", "T", "data", questions, tuple(Repeat(path) for path in repeats))


def tables_with(*questions: Question, repeats: tuple[Path, ...] = (), form: str = "f") -> FormTables:
    """Return the tables of a form with these questions and repeats."""
    return tables_of(definition(*questions, repeats=repeats, form=form))


def asked(path: str, kind: AnswerType = AnswerType.TEXT, *, choices: str = "", required: bool = False) -> Question:
    """Return a question; path and choices in one text each: "persons/age", "yes no"."""
    return Question(tuple(path.split("/")), kind, frozenset(choices.split()) or None, required)
