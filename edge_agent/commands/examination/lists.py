"""Lists of who is counted: whether the center can seal one to this device, and whether it can be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.own_list import LIST_KEY_FILE_NAME, ListUnreadable, read_list_key

_CHECK: Final = "counted lists"


def check_lists(subject: Subject) -> Iterator[Finding]:
    """The key's file, and the list that a running daemon has."""
    device = subject.configuration.device
    path = device.state_directory / LIST_KEY_FILE_NAME
    if not device.counted_lists:
        yield Finding(_CHECK, Verdict.OK, "this device asks for no lists of who is counted (device.counted_lists)")
        return
    if not path.exists():
        yield Finding(_CHECK, Verdict.NOTE, "the key that lists are sealed to is made when the daemon starts")
        return
    if os.geteuid() == 0 or os.access(path, os.R_OK):
        try:
            read_list_key(device.state_directory)
        except ListUnreadable as error:
            yield Finding(_CHECK, Verdict.PROBLEM, str(error), error.remedy)
            return
    if not subject.running:
        yield Finding(_CHECK, Verdict.OK, "the key that lists are sealed to is there")
        return
    known = (subject.status or {}).get("counted_list")
    if known is None:
        found = "no list of who is counted has come yet; the center gives one where it is needed"
        yield Finding(_CHECK, Verdict.OK, found)
    elif known["problem"] is not None:
        yield Finding(_CHECK, Verdict.WARNING, known["problem"], known["remedy"])
    else:
        yield Finding(_CHECK, Verdict.OK, "there is a list of who is counted: edge-agent counted")
