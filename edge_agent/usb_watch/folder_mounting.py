"""A folder that somebody else has mounted, or made, visited as if it were a medium (`edge-agent media import`)."""

from __future__ import annotations

from pathlib import Path

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mounting import (
    Cleared,
    Mounted,
    MountRefusal,
    MountRefused,
    PoweredOff,
    PowerOffRefusal,
    PowerOffRefused,
    Unmounted,
)


def folder_as_device(folder: Path) -> BlockDevice:
    """Return what stands for a folder where a medium is expected."""
    return BlockDevice(str(folder), str(folder), None, 0, is_write_protected=False)


class FolderMounting:
    """Mounts nothing; see `mounting.Mounting`."""

    def why_unavailable(self) -> str | None:
        return None

    def clear_leftovers(self) -> Cleared:
        return Cleared((), ())

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        folder = Path(device.node)
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            return MountRefused(MountRefusal.NOT_PERMITTED, f"{folder}: {error.strerror}")
        return Mounted(folder, is_read_only=False, release=lambda: Unmounted(was_lazy=False))

    def power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        return PowerOffRefused(PowerOffRefusal.NOT_SUPPORTED, f"{device.node} is a folder")
