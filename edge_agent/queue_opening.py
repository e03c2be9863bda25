"""Opens the queue at the daemon's start, when a command may be looking at it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from edge_agent.queue.store import QueueBusy, QueueStore

_QUEUE_BUSY_POLL_SECONDS: Final = 0.1
_QUEUE_BUSY_SECONDS_MAX: Final = 60
"""A command looks for a moment, `doctor` reads a large queue through; what lasts longer is another daemon."""


async def open_queue(directory: Path, thread: ThreadPoolExecutor) -> QueueStore:
    """Open the queue on its thread; raises StoreFault. A command may be looking at it just now: that is waited for."""
    loop = asyncio.get_running_loop()
    give_up_seconds = loop.time() + _QUEUE_BUSY_SECONDS_MAX
    while True:
        try:
            return await loop.run_in_executor(thread, QueueStore, directory)
        except QueueBusy:
            if loop.time() > give_up_seconds:
                raise
        await asyncio.sleep(_QUEUE_BUSY_POLL_SECONDS)
