"""One plain sentence on a visit to a medium, in the language of the device: for status, commands and the hook.

The sentences stand in the code in English, as the values of enums; catalogs in `edge_agent/locale` translate them.
"""

from __future__ import annotations

import gettext
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_agent.usb_watch.actions import Ending
from edge_agent.usb_watch.media_watch import MediumState
from edge_agent.usb_watch.mounting import MountRefused

LANGUAGES: Final = ("en", "ru", "kk")
MOUNTING: Final = "mounting"
DO_NOT_REMOVE: Final = "do not remove it"
_CATALOGS: Final = Path(__file__).parents[1] / "locale"

Sentence = Callable[[MediumState], str]


def sentences_in(language: str) -> Sentence:
    """Return what makes sentences in one of LANGUAGES."""
    catalog = gettext.translation("edge_agent", str(_CATALOGS), [language], fallback=language == "en")

    def sentence(state: MediumState) -> str:
        outcome = state.outcome
        if outcome is None:
            stage = MOUNTING if state.stage is None else state.stage.value
            return f"{catalog.gettext(stage)}: {catalog.gettext(DO_NOT_REMOVE)}"
        if isinstance(outcome, MountRefused):
            return catalog.gettext(outcome.sentence)
        ending = catalog.gettext(outcome.ending.value)
        if outcome.ending is Ending.LEFT_ALONE:
            return f"{ending}: {catalog.gettext(outcome.detail)}"
        return ending

    return sentence
