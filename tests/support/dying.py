"""Runs one of our programs so that it dies, as by SIGKILL, at the worst moment: just between two steps of a promise.

`python -m tests.support.dying MOMENT COUNT PROGRAM ARGUMENT…`: it dies when it reaches the moment for the COUNTth time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from central_broker import receipt_publisher
from central_broker.broker_link import BrokerLink
from central_broker.consumer import Consumer
from central_broker.storage.postgresql import PostgresqlStorage
from central_broker.storage.sqlite import SqliteStorage
from edge_agent.engine.effects import Accepted
from edge_agent.runner import Runner
from sync_protocol.topics import RECEIPTS_PREFIX


def _before(owner: Any, name: str, number: int, counts: Callable[..., bool] = lambda *_: True) -> None:
    """Let the process die instead of calling the method for the numberth time that counts."""
    original = getattr(owner, name)
    calls = count(1)

    def dying(*arguments: Any, **named: Any) -> Any:
        if counts(*arguments) and next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, dying)


def _accepts(_runner: object, effects: Any) -> bool:
    return any(isinstance(effect, Accepted) and not effect.repeated for effect in effects)


def _carries_receipt(_link: object, topic: str, _payload: bytes) -> bool:
    return topic.startswith(RECEIPTS_PREFIX)


def prepare(moment: str, number: int) -> None:
    """Arm the moment; raises ValueError for one that is not known."""
    match moment:
        case "between accept and reply":
            _before(Runner, "_release", number, _accepts)
        case "before commit":
            for storage in (SqliteStorage, PostgresqlStorage):
                _before(storage, "commit", number)
        case "between commit and acknowledgement":
            _before(Consumer, "_report", number)
        case "between sign and publish":
            _before(BrokerLink, "publish", number, _carries_receipt)
        case "between publish and finish":
            _before(receipt_publisher.ReceiptPublisher, "_finish", number)
        case _:
            raise ValueError(moment)


def main() -> None:
    """See the module."""
    moment, number, program, *arguments = sys.argv[1:]
    prepare(moment, int(number))
    sys.argv = [program, *arguments]
    if Path(program).name == "edge-agent":
        from edge_agent.commands import main as edge_agent

        edge_agent()
    else:
        from central_broker.commands import main as central_broker

        central_broker()


if __name__ == "__main__":
    main()
