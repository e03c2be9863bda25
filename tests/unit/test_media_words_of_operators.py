"""What operators read of sticks in the documentation is what the daemon says."""

from __future__ import annotations

import re

import polib
import pytest

from edge_agent.engine.media import LeftAlone
from edge_agent.journal_sentences import SENTENCES
from edge_agent.usb_watch.actions import Ending, Stage
from edge_agent.usb_watch.sentences import DO_NOT_REMOVE, MOUNTING
from tests.support.shared_data import PROJECT_FOLDER

OPERATING = (PROJECT_FOLDER / "docs" / "operating.md").read_text(encoding="utf-8")
SAID = [MOUNTING, DO_NOT_REMOVE, *(one.value for kind in (Stage, Ending, LeftAlone) for one in kind)]


def shortened(sentence: str) -> str:
    """What the table must show of it: the beginning, up to a colon or a semicolon, or its end, from its first word."""
    return re.split(r"[:;,]", sentence)[0]


@pytest.mark.parametrize("sentence", SAID)
def test_every_sentence_has_its_line(sentence: str) -> None:
    assert shortened(sentence) in OPERATING


@pytest.mark.parametrize("language", ["ru", "kk"])
def test_the_translations_are_those_of_the_catalogs(language: str) -> None:
    catalog = PROJECT_FOLDER / "edge_agent" / "locale" / language / "LC_MESSAGES" / "edge_agent.po"
    translated = {entry.msgid: entry.msgstr for entry in polib.pofile(str(catalog))}
    endings = [one.value for one in Ending if one is not Ending.LEFT_ALONE]
    for sentence in (*endings, *(one.value for one in Stage)):
        assert shortened(translated[sentence]) in OPERATING, sentence


def test_every_event_of_media_is_explained() -> None:
    events = [name for name in SENTENCES if name.startswith(("medium_", "media_", "led_", "hook_"))]
    # What is told at the level "debug" only is for support.
    assert [name for name in events if f"`{name}`" not in OPERATING and name != "medium_power"] == []
