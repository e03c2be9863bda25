"""The rules of one census: its critical moment, and when each channel is open.

What is outside of a window is accepted, and marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Channel(StrEnum):
    """How somebody was counted."""

    INTERVIEW = "interview"
    """Asked, with a tablet."""
    ONLINE = "online"
    """By a questionnaire completed on the census web site."""
    PROXY = "proxy"
    """By what the administration of an institution knew of him."""


class Timing(StrEnum):
    """How the day of completion lies to the channel's window."""

    INSIDE = "inside"
    EARLY = "early"
    LATE = "late"
    UNKNOWN = "unknown"
    """The questionnaire says no day."""


@dataclass(frozen=True, slots=True)
class Window:
    """The days on which a channel is open, first and last included."""

    first: date
    last: date

    def timing_of(self, day: date | None) -> Timing:
        if day is None:
            return Timing.UNKNOWN
        if day < self.first:
            return Timing.EARLY
        return Timing.LATE if day > self.last else Timing.INSIDE


@dataclass(frozen=True, slots=True)
class CensusRules:
    """See the module. Answers by proxy come in the time of interviews."""

    critical_moment: datetime
    online: Window
    interview: Window

    def timing_of(self, channel: Channel, day: date | None) -> Timing:
        """Say how a day lies to a channel's window."""
        return (self.online if channel is Channel.ONLINE else self.interview).timing_of(day)

    def is_born_after(self, birth_date: date | None) -> bool:
        """Whether somebody was born after the critical moment, and so is not to be counted."""
        if birth_date is None:
            return False
        moment = self.critical_moment
        is_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
        return birth_date >= moment.date() if is_midnight else birth_date > moment.date()
