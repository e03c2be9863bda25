"""The capacity check as a step of a command, with its progress bar and what to do when a stick fails it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from operations.block_storage import DeviceUnfit, check_device, device_storage
from operations.capacity_check import FakeSize, check_capacity
from operations.console import fail

_SECRET_BYTES: Final = 16

internal_option = click.option(
    "--internal", is_flag=True, help="Allow a DEVICE that is not on USB: a card reader inside this machine."
)


def need_stick(device: Path, *, internal: bool) -> None:
    """End the command unless it runs as root on a device that could be a stick; nothing is opened."""
    if os.geteuid() != 0:
        fail("this works on the device itself, as root", "run it with sudo")
    try:
        check_device(device, on_usb_only=not internal)
    except DeviceUnfit as unfit:
        fail(unfit.problem, unfit.remedy)


def need_capacity(device: Path, *, internal: bool, quiet: bool) -> int:
    """Return the capacity in bytes, all of it true; or end the command. `quiet`: no progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    try:
        with device_storage(device, on_usb_only=not internal) as storage, Progress(*columns, disable=quiet) as bar:
            task = bar.add_task(f"checking the capacity of {device}: do not pull it out", total=None)
            found = check_capacity(
                storage,
                os.urandom(_SECRET_BYTES),
                lambda done, total: bar.update(task, completed=done, total=total),
            )
    except DeviceUnfit as unfit:
        fail(unfit.problem, unfit.remedy)
    except OSError as error:
        fail(f"{device} fails: {error.strerror}", "take another stick; this one loses what is written to it")
    if isinstance(found, FakeSize):
        fail(
            f"{device} claims {gigabytes(found.claimed_bytes)} and has at most {gigabytes(found.real_bytes)}",
            "give it back to the shop: whatever is written beyond its real end is lost",
        )
    return found.capacity_bytes


def gigabytes(size_bytes: int) -> str:
    """A capacity as shops name it."""
    return f"{size_bytes / 1_000_000_000:.2f} GB"
