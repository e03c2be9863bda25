"""A consumer or receipt publisher as a process of its own, which can be told to die at a chosen moment.

Run as `python -m tests.support.center_process CONFIGURATION`, a JSON object: role, url, port, client_id, die.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import structlog

from central_broker.broker_link import BrokerLink, BrokerSettings
from central_broker.consumer import ConsumerSettings, run_consumer
from central_broker.receipt_publisher import PublisherSettings, run_receipt_publisher
from central_broker.stopping import stop_on_signals
from central_broker.storage import open_storage
from central_broker.storage.batch_records import Batch, BatchResult, WholeDecoder
from central_broker.storage.contract import Storage
from tests.support.center import Center
from tests.support.processes import RunningProcess

COMMIT_NUMBER_TO_DIE_AT = 2


def start(folder: Path, **configuration: object) -> RunningProcess:
    """Start one; its log lines are JSON."""
    log = folder / f"{configuration['client_id']}.log"
    return RunningProcess([sys.executable, "-m", "tests.support.center_process", json.dumps(configuration)], log=log)


def events(process: RunningProcess, event: str) -> list[dict[str, Any]]:
    """The log records of one event so far."""
    lines = process.log.read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [record for record in records if record["event"] == event]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dying(storage: Storage, moment: str) -> Storage:
    """The storage, but its process dies around the second commit."""
    commit, count = storage.commit, 0

    def commit_and_die(batch: Batch, decode_whole: WholeDecoder, now: int) -> BatchResult:
        nonlocal count
        count += 1
        if moment == "before_commit" and count == COMMIT_NUMBER_TO_DIE_AT:
            _die()
        result = commit(batch, decode_whole, now)
        if moment == "after_commit" and count == COMMIT_NUMBER_TO_DIE_AT:
            _die()
        return result

    storage.commit = commit_and_die  # type: ignore[method-assign]  # the fault that is tested
    return storage


def main() -> None:
    configuration = json.loads(sys.argv[1])
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stdout)
    )
    center = Center()
    broker = BrokerSettings("127.0.0.1", configuration["port"], configuration["client_id"], None)
    die = configuration.get("die", "")
    storage = open_storage(configuration["url"])
    with stop_on_signals() as stop:
        if configuration["role"] == "consumer":
            run_consumer(
                ConsumerSettings(broker, "center-of-a-test", batch_envelopes=20, batch_milliseconds=20),
                _dying(storage, die) if die else storage,
                trust=center.trust(),
                secrets=[center.recipient],
                now=lambda: time.time_ns() // 1000,
                jitter=random.random,
                stop=stop,
            )
        else:
            if die == "before_publish":
                BrokerLink.publish = lambda *_: _die()  # type: ignore[method-assign]  # the fault that is tested
            if die == "before_finish":
                storage.finish_wants = lambda wants: _die()  # type: ignore[method-assign]  # the fault that is tested
            run_receipt_publisher(
                PublisherSettings(broker, poll_seconds=0.05, lease_seconds=0.5),
                storage,
                signer=center.receipt_signer,
                certificates=center.key_certificates(),
                now=lambda: time.time_ns() // 1000,
                jitter=random.random,
                stop=stop,
            )
    storage.close()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a real stream here
    main()
