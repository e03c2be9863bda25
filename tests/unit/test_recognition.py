"""What is taken for a questionnaire, and what is refused, with words that a person can act on."""

import gzip
import json
import uuid
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, recognise
from sync_protocol.content import MEDIA_TYPE_JSON, MEDIA_TYPE_XML, Questionnaire
from sync_protocol.limits import JSON_DEPTH_MAX

BYTES_MAX = 1_000_000


def read(body: bytes, *, default_form: str = "household", media_type: str = "", form: str = "") -> object:
    raw = RawSubmission(body, media_type=media_type, form=form)
    return recognise(raw, default_form=default_form, bytes_max=BYTES_MAX, now=5, new_instance_id="uuid:new")


def accepted(body: bytes, **given_with: str) -> Questionnaire:
    one = read(body, **given_with)
    assert isinstance(one, Questionnaire), one
    assert one.body == body and one.created_at == 5
    return one


def refused(body: bytes, **given_with: str) -> Unacceptable:
    one = read(body, **given_with)
    assert isinstance(one, Unacceptable), one
    assert one.problem and one.remedy and not one.again
    return one


@pytest.mark.parametrize(
    ("body", "form", "version", "instance_id"),
    [
        (b'{"a":1}', "household", "", "uuid:new"),
        (b'{"form":"f","form_version":"2","instance_id":"i"}', "f", "2", "i"),
        (b'{"instanceID":"i"}', "household", "", "i"),
        (b'{"meta":{"instanceID":"i"}}', "household", "", "i"),
        (b'{"meta":{"instance_id":"i"}}', "household", "", "i"),
        (b'{"form":7,"instance_id":null,"meta":[1]}', "household", "", "uuid:new"),
        (b'{"form":"f","form":"g"}', "g", "", "uuid:new"),
        (b' \n{"a":"]]]]{{{\\"[["}\n', "household", "", "uuid:new"),
        ('{"form":"анкета","instance_id":"\\u00e9"}'.encode(), "анкета", "", "é"),
    ],
)
def test_json_says_which_form_and_instance_it_is(body: bytes, form: str, version: str, instance_id: str) -> None:
    one = accepted(body)
    assert (one.form, one.form_version, one.instance_id) == (form, version, instance_id)
    assert one.media_type == MEDIA_TYPE_JSON


@pytest.mark.parametrize(
    ("body", "form", "version", "instance_id"),
    [
        (b'<data id="f" version="3"><meta><instanceID>uuid:1</instanceID></meta></data>', "f", "3", "uuid:1"),
        (
            b'<h:d xmlns:h="u:h" xmlns:o="u:o" id="f"><o:meta><o:instanceID> uuid:1\n</o:instanceID></o:meta></h:d>',
            "f",
            "",
            "uuid:1",
        ),
        (b'<data id="f"><group><meta><instanceID>no</instanceID></meta></group></data>', "f", "", "uuid:new"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<data id="f"/>', "f", "", "uuid:new"),
        ('<data id="анкета"><a>ответ</a></data>'.encode(), "анкета", "", "uuid:new"),
        ('<?xml version="1.0" encoding="koi8-r"?><d id="f"><a>ж</a></d>'.encode("koi8-r"), "f", "", "uuid:new"),
    ],
)
def test_xml_says_which_form_and_instance_it_is(body: bytes, form: str, version: str, instance_id: str) -> None:
    one = accepted(body)
    assert (one.form, one.form_version, one.instance_id) == (form, version, instance_id)
    assert one.media_type == MEDIA_TYPE_XML


def test_what_the_bringer_says_goes_before_what_the_bytes_say() -> None:
    raw = RawSubmission(b'{"form":"f","instance_id":"i"}', form="g", form_version="9", instance_id="j")
    one = recognise(raw, default_form="d", bytes_max=100, now=5)
    assert isinstance(one, Questionnaire)
    assert (one.form, one.form_version, one.instance_id) == ("g", "9", "j")


def test_a_clock_before_1970_is_written_as_1970() -> None:
    one = recognise(RawSubmission(b"{}"), default_form="d", bytes_max=100, now=-9)
    assert isinstance(one, Questionnaire) and one.created_at == 0


def test_a_questionnaire_without_instance_id_gets_a_random_one_by_default() -> None:
    ones = [recognise(RawSubmission(b"{}"), default_form="d", bytes_max=100, now=5) for _ in range(2)]
    names = {one.instance_id for one in ones if isinstance(one, Questionnaire)}
    assert len(names) == 2 and all(uuid.UUID(name.removeprefix("uuid:")) for name in names)


LAUGHS = (
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b']><d id="f">&j;</d>'
)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "nothing in it"),
        (b" \n\t", "nothing in it"),
        (b"x" * (BYTES_MAX + 1), "bytes, more than"),
        (b'{"a":', "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a":NaN}', "not a JSON object"),
        (b'{"a":1} {"a":2}', "not a JSON object"),
        (b'{"a":"\x00"}', "not a JSON object"),
        (b'{"form":"\\ud800"}', "not a JSON object"),
        (b'{"a":"\xff"}', "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper"),
        (b"[" * 500_000, "nested deeper"),
        (b'{"a"' + b'"' + b'\\"' * 400_000, "not a JSON object"),
        (b'"' * 400_000 + b"\\", "not a JSON object"),
        (b'{"form":"%s"}' % (b"f" * 251), "form is longer"),
        (b'{"instance_id":"a\\nb"}', "instance id is longer"),
        (b"<d/>", "which form"),
        (b"<d id='f'>", "not well-formed"),
        (b"<d id='f'/>more", "not well-formed"),
        (b"<d id='f'>\x00</d>", "not well-formed"),
        (b"<d id='f'>\xff</d>", "not well-formed"),
        (b"<d id='f'>&nothing;</d>", "not well-formed"),
        (b'<?xml version="1.0" encoding="utf-16"?><d id="f"/>', "not well-formed"),
        (b'<?xml version="1.0" encoding="unheard-of"?><d id="f"/>', "not well-formed"),
        (b'<?xml version="1.0" encoding="idna"?><d id="f"/>', "not well-formed"),
        (b'<?xml version="1.0" encoding="base64"?><d id="f"/>', "not well-formed"),
        (b"<d>" * 70, "nested deeper"),
        (b"<!DOCTYPE d><d id='f'/>", "document type"),
        (b'<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd"><d id="f"/>', "document type"),
        (b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d id="f">&x;</d>', "document type"),
        (LAUGHS, "document type"),
    ],
)
def test_what_is_no_questionnaire_is_refused_with_the_reason(body: bytes, problem: str) -> None:
    assert problem in refused(body).problem


def test_a_media_type_that_is_neither_is_refused_by_name() -> None:
    assert "image/png" in refused(b"{}", media_type="image/png").problem
    assert accepted(b"<d id='f'/>", media_type="application/xml").media_type == MEDIA_TYPE_XML
    assert "JSON" in refused(b"<d id='f'/>", media_type="application/json").problem


def test_json_without_a_form_is_refused_when_no_form_is_configured() -> None:
    assert "default_form" in refused(b"{}", default_form="").remedy
    assert accepted(b"{}", default_form="", form="f").form == "f"


@pytest.mark.parametrize("depth", [JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1])
def test_the_depth_allowed_is_exact(depth: int) -> None:
    ones = [
        read(b'{"a":' * depth + b"1" + b"}" * depth),
        read(b"<d id='f'>" + b"<a>" * (depth - 1) + b"</a>" * (depth - 1) + b"</d>"),
    ]
    assert [isinstance(one, Questionnaire) for one in ones] == [depth <= JSON_DEPTH_MAX] * 2


def test_a_refusal_quotes_no_answer() -> None:
    for body in (b'{"name":"Aigerim" "age":3}', b"<d id='f'><name>Aigerim<name></d>", b'{"name":Aigerim}'):
        assert "Aigerim" not in refused(body).problem


@given(st.binary(max_size=300))
def test_no_bytes_end_in_anything_but_an_answer(body: bytes) -> None:
    assert isinstance(read(body), Questionnaire | Unacceptable)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("form", "form_version", "instance_id", "instanceID", "meta")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=9), JSON_VALUES, max_size=5), st.booleans())
def test_no_json_ends_in_anything_but_an_answer(document: dict[str, object], escaped: bool) -> None:
    text = json.dumps(document, ensure_ascii=escaped)
    assert isinstance(read(text.encode(errors="surrogatepass")), Questionnaire | Unacceptable)


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_xml_text_ends_in_anything_but_an_answer(form: str, answer: str) -> None:
    body = f"<d id={quoteattr(form)}>{answer}</d>".encode(errors="surrogatepass")
    assert isinstance(read(body), Questionnaire | Unacceptable)


@pytest.mark.shared_data
def test_every_submission_of_odk_collect_is_recognised(openrosa_folder: Path) -> None:
    files = sorted((openrosa_folder / "transportation").glob("instances_*.xml"))
    assert len(files) >= 7
    ones = [accepted(file.read_bytes(), default_form="") for file in files]
    assert {one.form for one in ones} == {"transportation_2011_07_25"}
    brought = [one.instance_id for one in ones if one.instance_id != "uuid:new"]
    assert len(brought) >= 1 and all(name.startswith("uuid:") for name in brought)


@pytest.mark.shared_data
def test_every_popstan_household_is_recognised(popstan_folder: Path) -> None:
    with gzip.open(popstan_folder / "households.jsonl.gz") as lines:
        bodies = lines.read().splitlines()
    assert len(bodies) == 4872
    assert {accepted(body).form for body in bodies} == {"household"}
