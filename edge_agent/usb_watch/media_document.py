"""Visits to media as plain values, for commands and other programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_agent.usb_watch.media_watch import MediaWatch, MediumState, counts
from edge_agent.usb_watch.medium_enrolment import MediumEnrolment
from edge_agent.usb_watch.mounting import MountRefused
from edge_agent.usb_watch.sentences import Sentence


def media_document(states: Iterable[MediumState], sentence: Sentence) -> list[dict[str, Any]]:
    """Return one record for each visit, oldest first; times in microseconds."""
    return [_record(state, sentence(state)) for state in states]


def _record(state: MediumState, sentence: str) -> dict[str, Any]:
    outcome = state.outcome
    progress = state.progress if outcome is None or isinstance(outcome, MountRefused) else outcome.progress
    record: dict[str, Any] = {
        "visit": state.nonce,
        "node": state.node,
        "present": state.is_present,
        "shown": state.is_shown,
        "began_at": state.began_at,
        "ended_at": state.ended_at,
        "stage": None if state.stage is None else state.stage.value,
        "medium": None,
        "number": state.number,
        "ending": None,
        "safe_to_remove": False,
        "sentence": sentence,
        "detail": "",
        **({} if progress is None else counts(progress)),
        "as_left": None if progress is None else progress.is_as_left,
        "damaged_files": [] if progress is None else [f"{file.device}/{file.name}" for file in progress.damaged],
    }
    if isinstance(outcome, MountRefused):
        record |= {"ending": outcome.reason.name.lower(), "detail": outcome.detail}
    elif outcome is not None:
        medium = outcome.medium
        record |= {
            "ending": outcome.ending.name.lower(),
            "safe_to_remove": outcome.ending.is_safe,
            "detail": outcome.detail,
            "medium": None if medium is None else medium.medium.hex(),
            "number": None if medium is None else medium.number,
            "holder": None if medium is None else medium.holder,
        }
    return record


class MediaDesk:
    """What commands ask of the USB watch."""

    def __init__(self, media: MediaWatch, enrolment: MediumEnrolment, sentence: Sentence) -> None:
        self._media = media
        self._sentence = sentence
        self.certify = enrolment.certify
        self.record = enrolment.record

    def visits(self) -> list[dict[str, Any]]:
        """Return what came of the media, as plain values."""
        return media_document(self._media.states(), self._sentence)

    def visit_folder(self, folder: Path, *, leaves: bool) -> str:
        """Begin to visit a folder, and name the visit."""
        return self._media.visit_folder(folder, leaves=leaves)
