"""`edge-agent notify`: shows on this desktop what becomes of media, for as long as the session lasts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

import click

from edge_agent.commands.context import configured
from edge_agent.usb_watch.desktop import Desktop, DesktopFault, notices_from
from edge_agent.usb_watch.notices import NOTICES_SOCKET_NAME
from operations.console import fail, print_line

_RETRY_SECONDS_MIN: Final = 1.0
"""After a daemon that ended: it is started again, and visits what is in place."""

_RETRY_SECONDS_MAX: Final = 30.0
"""While there is none to be heard. A look for a file costs next to nothing."""


@click.command("notify", short_help="Show on this desktop what becomes of media.")
@click.pass_context
def command(context: click.Context) -> None:
    """Show a notification for each medium: while it is worked on, and what came of it.

    It runs in the session of whoever is at the machine, with no more rights than that person has: started with the
    session by edge-agent-notify.service (or by census-notify.desktop, among the examples), and ended with it. The
    daemon's configuration must name a group in `notify_group` of `[usb]`, and the person must be in it.
    """
    path = configured(context).device.runtime_directory / NOTICES_SOCKET_NAME
    try:
        asyncio.run(_run(path))
    except DesktopFault as fault:
        fail(str(fault), "run it in a graphical session, as the person who is logged in there")


async def _run(path: Path) -> None:
    """Return when the session has ended. Raises DesktopFault when there is none."""
    async with Desktop() as desktop:
        following = asyncio.create_task(_follow(path, desktop))
        ending = asyncio.create_task(desktop.wait_until_gone())
        await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not following.done():
            following.cancel()
            return
        following.result()


async def _follow(path: Path, desktop: Desktop) -> None:
    """Show what the daemon tells, for ever; whatever keeps us from it is told once, as long as it is the same."""
    problems = _Problems()
    pause_seconds = _RETRY_SECONDS_MIN
    while True:
        try:
            async for notice in notices_from(path):
                pause_seconds = _RETRY_SECONDS_MIN
                await problems.tried(desktop.show(notice))
        except FileNotFoundError:
            problems.tell(f"the daemon does not run, or has no usb.notify_group: there is no {path}")
        except PermissionError:
            problems.tell(f"this user may not use {path}: be a member of usb.notify_group, and log in anew")
        except OSError as error:
            problems.tell(f"the daemon cannot be heard: {error}")
        await problems.tried(desktop.forget())
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _RETRY_SECONDS_MAX)


class _Problems:
    """Says what is wrong, once."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, problem: str) -> None:
        if problem != self._told:
            print_line(problem, sys.stderr)
        self._told = problem

    async def tried(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except DesktopFault as fault:
            self.tell(str(fault))
