"""The option --expires of commands: a last day of use, as people name it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

import click

NEVER: Final = "never"


def _read(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return the microsecond at which the day ends."""
    if value is None or value == NEVER:
        return None if value is None else 0
    try:
        following = date.fromisoformat(value) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is not a day such as 2026-11-30, nor `never`", context, parameter
        ) from None
    return int(datetime(following.year, following.month, following.day, tzinfo=UTC).timestamp()) * 1_000_000


expires_option = click.option(
    "--expires",
    callback=_read,
    metavar="DATE",
    help="Last day of use (UTC), such as 2026-11-30; or `never`.",
)
"""Gives microseconds since 1970, 0 for never, None when it is not said."""
