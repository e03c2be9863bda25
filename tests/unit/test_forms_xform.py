"""Which forms are read, as what, and which are refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central_broker.forms.definition import AnswerType, FormDefinition, FormRefused, Question
from central_broker.forms.xform import QUESTIONS_MAX, XML_DEPTH_MAX, read_xform
from central_broker.forms.xlsform import convert
from sync_protocol.limits import JSON_DEPTH_MAX, XFORM_BYTES_MAX
from tests.support.xforms import xform

LISTS = """<instance id="sex"><root><item><name>m</name></item><item><name>f</name></item></root></instance>
<instance id="villages" src="jr://file-csv/villages.csv"/><instance id="empty"><root/></instance>"""


def question(data: bytes) -> Question:
    (only,) = read_xform(data).questions
    return only


def select(nodeset: str, control: str = "select1", value: str = "name") -> str:
    return f'<{control} ref="/data/q"><itemset nodeset="{nodeset}"><value ref="{value}"/></itemset></{control}>'


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("string", AnswerType.TEXT),
        ("xsd:int", AnswerType.INTEGER),
        ("integer", AnswerType.INTEGER),
        ("decimal", AnswerType.DECIMAL),
        ("boolean", AnswerType.BOOLEAN),
        ("date", AnswerType.DATE),
        ("time", AnswerType.TIME),
        ("dateTime", AnswerType.DATETIME),
        ("geopoint", AnswerType.GEOPOINT),
        ("geotrace", AnswerType.TEXT),
        ("geoshape", AnswerType.TEXT),
        ("barcode", AnswerType.TEXT),
        ("odk:rank", AnswerType.TEXT),
        ("binary", AnswerType.FILE),
        ("select1", AnswerType.SELECT_ONE),
        ("select", AnswerType.SELECT_MULTIPLE),
        ("something-new", AnswerType.TEXT),
    ],
)
def test_a_bind_types_its_question(bound: str, expected: AnswerType) -> None:
    assert question(xform("<q/>", binds=f'<bind nodeset="/data/q" type="{bound}"/>')).type is expected


def test_an_element_without_a_bind_is_a_text() -> None:
    assert question(xform("<q/>")) == Question(("q",), AnswerType.TEXT)


def test_form_id_version_and_title_are_read() -> None:
    form = read_xform(xform("<q/>", title=" A\n form "))
    assert (form.form, form.version, form.title, form.root) == ("f", "1", "A form", "data")
    namespaced = xform("<q/>").replace(b' version="1">', b' orx:version="7">')
    assert read_xform(namespaced).version == "7"
    assert read_xform(xform("<q/>").replace(b' version="1">', b">")).version == ""


@pytest.mark.parametrize("bound", ["string", "select1"])
@pytest.mark.parametrize("control", ["select1", "select"])
def test_a_select_is_known_by_its_control_and_offers_its_items(control: str, bound: str) -> None:
    items = "<item><label/><value>a</value></item><item><value> b </value></item>"
    data = xform(
        "<q/>",
        binds=f'<bind nodeset="/data/q" type="{bound}"/>',
        body=f'<{control} ref="/data/q">{items}</{control}>',
    )
    expected = AnswerType.SELECT_ONE if control == "select1" else AnswerType.SELECT_MULTIPLE
    assert question(data) == Question(("q",), expected, frozenset("ab"))


@pytest.mark.parametrize(
    ("nodeset", "choices"),
    [
        ("instance('sex')/root/item", {"m", "f"}),
        ("instance('sex')/root/item[parent= /data/other ]", {"m", "f"}),
        ("randomize(instance('sex')/root/item[name != 'm'], 3)", {"m", "f"}),
        ("instance('villages')/root/item", None),
        ("instance('nowhere')/root/item", None),
        ("instance('empty')/root/item", None),
        ("../../persons[./name != '']", None),
        ("/data/persons", None),
    ],
)
def test_an_itemset_offers_all_names_of_its_list_or_nobody_knows_which(nodeset: str, choices: set[str] | None) -> None:
    found = question(xform("<q/>", body=select(nodeset), lists=LISTS))
    assert (found.type, found.choices) == (AnswerType.SELECT_ONE, None if choices is None else frozenset(choices))


def test_items_that_only_show_where_a_search_puts_its_finds_are_no_choices() -> None:
    body = '<select1 appearance="minimal search(\'x\')" ref="/data/q"><item><value>name</value></item></select1>'
    assert question(xform("<q/>", body=body)).choices is None


def test_two_controls_for_one_question_offer_the_choices_of_both() -> None:
    body = select("instance('sex')/root/item") + '<select1 ref="/data/q"><item><value>x</value></item></select1>'
    assert question(xform("<q/>", body=body, lists=LISTS)).choices == frozenset("mfx")


def test_controls_of_old_forms_name_their_bind() -> None:
    data = xform(
        "<q/>",
        binds='<bind id="b" nodeset="/data/q" type="select1"/>',
        body='<select1 bind="b"><item><value>1</value></item></select1>',
    )
    assert question(data).choices == frozenset("1")


def test_repeats_and_groups_make_paths_and_templates_are_no_second_occurrence() -> None:
    person = "<age/><jobs><at/></jobs>"
    data = xform(
        f'<g><a/></g><persons jr:template="">{person}</persons><persons>{person}</persons>',
        body='<group ref="/data/persons"><repeat nodeset="/data/persons"><group ref="/data/persons/jobs">'
        '<repeat nodeset="/data/persons/jobs"/></group></repeat></group>',
    )
    form = read_xform(data)
    assert [one.path for one in form.questions] == [("g", "a"), ("persons", "age"), ("persons", "jobs", "at")]
    assert [one.path for one in form.repeats] == [("persons",), ("persons", "jobs")]


def test_meta_is_no_question_wherever_an_entity_has_it() -> None:
    form = read_xform(xform("<p><meta><entity id=''/></meta><q/></p><g><meta/></g>"))
    assert [one.path for one in form.questions] == [("p", "q"), ("g", "meta")]


def test_a_note_is_no_question_but_what_has_a_value_is() -> None:
    names = ("note", "calculated", "preloaded", "preset", "set", "hidden")
    binds = "".join(
        f'<bind nodeset="/data/{name}" readonly="true()"{more}/>'
        for name, more in zip(names, ("", ' calculate="1+1"', ' jr:preload="uid"', "", "", ""), strict=True)
    )
    data = xform(
        "<note/><calculated/><preloaded/><preset>5</preset><set/><hidden/>",
        binds=binds + '<setvalue ref="/data/set" event="odk-instance-first-load"/>',
        body="".join(f'<input ref="/data/{name}"/>' for name in names[:-1]),
    )
    assert [one.path[0] for one in read_xform(data).questions] == list(names[1:])


@pytest.mark.parametrize(
    ("of_question", "of_group", "required"),
    [
        ('required="true()"', "", True),
        ('required="true()" relevant="true()"', "", True),
        ('required="true()" relevant="../x = 1"', "", False),
        ('required="true()"', 'relevant="/data/x = 1"', False),
        ('required="../x = 1"', "", False),
        ('required="false()"', "", False),
        ("", "", False),
    ],
)
def test_a_question_is_required_where_no_condition_could_hide_it(
    of_question: str, of_group: str, required: bool
) -> None:
    binds = f'<bind nodeset="/data/g" {of_group}/><bind nodeset="/data/g/q" {of_question}/>'
    assert question(xform("<g><q/></g>", binds=binds)).required is required


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not XML"),
        (b"PK\x03\x04", "not XML"),
        (b"<a/>", "no model"),
        (b"<a><model/></a>", "no model"),
        (b"<a><model><instance/></model></a>", "no model"),
        (b"<a><model><instance><data/></instance></model></a>", "no id"),
        (xform("<q/>").replace(b'id="f"', b'id="' + b"f" * 251 + b'"'), "id is longer"),
        (xform("<q/>").replace(b'version="1">', b'version="' + b"1" * 251 + b'">'), "version is longer"),
        (xform("<q/>").replace(b"<h:html", BOMB + b"<h:html"), "entities"),
        (b'<?xml version="1.0" encoding="x-none"?><a/>', "encoding"),
        (b" " * (XFORM_BYTES_MAX + 1), "bytes"),
        (xform("<g>" * JSON_DEPTH_MAX + "</g>" * JSON_DEPTH_MAX), "answers nest deeper"),
        (xform("<q/>", body="<g>" * XML_DEPTH_MAX + "</g>" * XML_DEPTH_MAX), "form nests deeper"),
        (b"<a>" * 200_000 + b"</a>" * 200_000, "form nests deeper"),
        (xform("".join(f"<q{number}/>" for number in range(QUESTIONS_MAX + 1))), "questions"),
        (xform("<q/>", binds='<bind nodeset="/data/other"/>'), "/data/other"),
        (xform("<q/>", body='<input ref="/data/g/other"/>'), "g/other"),
        (xform("<q/>", body='<repeat nodeset="/data/other"/>'), "other"),
    ],
)
def test_what_is_no_form_is_refused_with_words(data: bytes, problem: str) -> None:
    with pytest.raises(FormRefused) as refused:
        read_xform(data)
    assert problem in refused.value.problem and refused.value.remedy


PIECES = [
    *(b"<data ", b"</data>", b"<instance>", b"<instance", b' id="f"', b"<model>", b"</model>", b'nodeset="/data/q"'),
    *(b"<itemset nodeset=\"instance('sex')/root/item\">", b'<repeat nodeset="/data/q">', b"<select1 ", b"/>", b">"),
    *(b"<!--x-->", b"<?p x?>", b"\xff", b"<![CDATA[", b"]]>", b' ref="/data/"', b' ref="/"', b' type="int"', b'"'),
    *(b"xmlns:h=''", b"&amp;"),
]


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    _read_or_refuse(data)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.sampled_from([b"", *PIECES])), max_size=4))
def test_a_damaged_form_is_read_or_refused(damages: list[tuple[int, int, bytes]]) -> None:
    data = xform(
        "<q/><g><r>x</r></g>",
        binds='<bind nodeset="/data/q" type="string" relevant="/data/g/r = 1" required="true()"/>',
        body=select("instance('sex')/root/item") + '<group ref="/data/g"><repeat nodeset="/data/g"/></group>',
        lists=LISTS,
    )
    for start, length, piece in damages:
        data = data[:start] + piece + data[start + length :]
    _read_or_refuse(data)


def _read_or_refuse(data: bytes) -> None:
    try:
        assert isinstance(read_xform(data), FormDefinition)
    except FormRefused as refused:
        assert refused.problem and refused.remedy


FORM_IN_MARKDOWN = """
| survey | | | | | |
| | type | name | label | required | relevant |
| | integer | n | N | yes | |
| | note | hello | Hello | | |
| | select_multiple langs or_other | l | L | yes | ${n} > 1 |
| | begin_repeat | persons | P | | |
| | select_one_from_file v.csv | v | V | | |
| | rank langs | r | R | | |
| | geopoint | where | W | | |
| | end_repeat | | | | |
| choices | | | |
| | list_name | name | label |
| | langs | kk | Kazakh |
| | langs | ru | Russian |
| settings | | | |
| | form_title | form_id | version |
| | A form | f | 3 |
"""


def test_an_xlsform_is_converted_and_read(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text(FORM_IN_MARKDOWN)
    form = read_xform(convert(tmp_path / "x.md").xform)
    assert (form.form, form.version, form.title) == ("f", "3", "A form")
    assert form.questions == (
        Question(("n",), AnswerType.INTEGER, required=True),
        Question(("l",), AnswerType.SELECT_MULTIPLE, frozenset({"kk", "ru", "other"})),
        Question(("l_other",), AnswerType.TEXT),
        Question(("persons", "v"), AnswerType.SELECT_ONE),
        Question(("persons", "r"), AnswerType.TEXT),
        Question(("persons", "where"), AnswerType.GEOPOINT),
    )


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("x.md", FORM_IN_MARKDOWN.replace("integer | n", "integre | n").encode(), "Unknown question type 'integre'"),
        ("x.md", FORM_IN_MARKDOWN.replace("${n}", "${m}").encode(), "m"),
        ("x.md", b"\xff\xfe", "cannot be converted"),
        ("x.xlsx", b"no archive", "no Excel workbook"),
        ("x.xls", b"no workbook", "x.xls"),
        ("x.csv", b"", "x.csv"),
        ("x.docx", b"", "extension"),
        ("nothing.md", None, "cannot be read"),
    ],
)
def test_what_is_no_xlsform_is_refused_in_the_words_of_its_reader(
    tmp_path: Path, name: str, data: bytes | None, problem: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FormRefused) as refused:
        convert(tmp_path / name)
    assert problem in refused.value.problem and refused.value.remedy
