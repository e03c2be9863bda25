"""The synthetic preset dictionary for compressing questionnaires (SPEC.md §2.1).

Made of what questionnaires have in common — XForm and JSON scaffolding and the usual names of census
questions — and of no answer of anybody. A dictionary is never changed, because sealed envelopes name it by
its digest: a better one is added.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

_XFORM: Final = (
    '<?xml version="1.0" encoding="UTF-8" ?><?xml version=\'1.0\' ?>'
    '<data xmlns:jr="http://openrosa.org/javarosa" xmlns:orx="http://openrosa.org/xforms" '
    'xmlns:h="http://www.w3.org/1999/xhtml" '
    'id="household" version="2021090100"><start>2021-10-01T09:00:00.000+06:00</start>'
    "<end>2021-10-01T09:30:00.000+06:00</end>"
    "<today>2021-10-01</today><deviceid>collect:</deviceid>"
    "<meta><deprecatedID>uuid:</deprecatedID><instanceID>uuid:</instanceID>"
    "<instanceName></instanceName></meta></data><orx:meta><orx:instanceID>uuid:</orx:instanceID></orx:meta>"
)
_XML_NAMES: Final = (
    "address region district settlement street building dwelling household questionnaire housing persons person member "
    "line "
    "name surname sex male female birth_date age citizenship ethnicity language religion marital_status relationship "
    "education literacy school employment occupation industry workplace income source migration "
    "arrived_from children_born "
    "disability rooms area tenure owned rented walls roof floor water toilet bath heating lighting fuel internet "
    "geopoint note yes no"
)
_JSON_HOUSEHOLD: Final = (
    '{"questionnaire":{"region":1,"province":1,"district":1,"village":1,"settlement":"","street":"","ea":1,"ur":1,"building":1,"dwelling":1,'
    '"hu":1,"hh":1,"household":1,"interviewer":"","visited":"2021-10-01"},"housing":{"h01_type":1,"h02_wall":1,"h03_roof":1,"h04_floor":1,'
    '"h05_rooms":1,"h06_tenure":1,"h07_rent":0,"h08_toilet":1,"h09_bath":1,"h10_water":1,"h11_light":1,"h12_fuel":1,"h13_persons":1},"persons":['
)
_JSON_PERSON: Final = (
    '{"line":1,"name":"","sex":1,"birth_date":"1980-01-01","age":1,"relationship":1,"marital_status":1,"citizenship":1,"ethnicity":1,"language":1,'
    '"education":1,"literacy":1,"employment":1,"occupation":1,"industry":1},{"line":2,"p02_rel":2,"p03_sex":2,"p04_age":20,"p05_ms":1,"p06_mother":1,'
    '"p07_birth":1,"p08_res95":1,"p09_attend":2,"p10_high_gr":1,"p11_literacy":1,"p12_working":1,"p13_looking":1,"p14_why_not":1,"p15_occ":1,"p16_ind":1,'
    '"p17_wk_status":1,"econ_active":1,"p18_born":0,"p19_living":0,"p20_born12":0},{"line":3,"p02_rel":3,"p03_sex":1,"p04_age":1,"p05_ms":5,"p06_mother":1,'
    '"p07_birth":1,"p08_res95":1,"p09_attend":1,"p10_high_gr":1,"p11_literacy":1,"p17_wk_status":9,"econ_active":2}]}'
)
_METADATA: Final = (
    '{"form":"household","form_version":"","instance_id":"uuid:","media_type":"application/json","media_type":"text/xml","created_at":16330'
    ',"part":1,"parts":1,"whole_bytes":1,"whole_digest":"'
)

DICTIONARY_ID_BYTES: Final = 8


def _tags(names: str) -> str:
    return "".join(f"</{name}><{name}>" for name in names.split())


# Deflate reaches back cheapest to what comes last: the likeliest content stands at the end.
CURRENT: Final = (_METADATA + _tags(_XML_NAMES) + _XFORM + _JSON_HOUSEHOLD + _JSON_PERSON).encode()
CURRENT_ID: Final = sha256(CURRENT).digest()[:DICTIONARY_ID_BYTES]

DICTIONARIES: Final = {CURRENT_ID: CURRENT}
"""Every dictionary that an envelope may name."""
