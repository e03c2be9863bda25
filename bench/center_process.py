"""One process of the center under measurement: `python -m bench.center_process ROLE FOLDER INSTANCE`.

It gets everything ready (imports, keys, database), says "ready", waits for a line on its standard input, then works
until SIGTERM exactly as the product's service does. So neither starting nor opening sealed keys is measured.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from bench.center import broker_settings, now, open_files
from bench.consumer_identity import consumer_id
from bench.ready_process import DATABASE_VARIABLE
from central_broker.consumer import ConsumerSettings, run_consumer
from central_broker.receipt_publisher import PublisherSettings, run_receipt_publisher
from central_broker.stopping import stop_on_signals
from central_broker.storage import open_storage
from operations.journal import configure_logging
from sync_protocol.statement import KEY_CERTIFICATE


def main() -> None:
    """Be ready, wait, work."""
    role, folder, instance = sys.argv[1:4]
    files = open_files(Path(folder))
    storage = open_storage(os.environ[DATABASE_VARIABLE])
    configure_logging(f"bench-{role}", style="text", level="info", sentences={})
    jitter = random.Random().random
    if role == "consumer":
        secrets, trust = files.recipient_keys(), files.trust()
        configuration = files.configuration
        settings = ConsumerSettings(
            broker_settings(files, "consumer", consumer_id(instance)),
            group=configuration.consumer.group,
            batch_envelopes=configuration.consumer.batch_envelopes_max,
            batch_milliseconds=configuration.consumer.batch_wait_milliseconds,
            receive_maximum=configuration.broker.in_flight_max,
        )
        wait_for_go()
        with stop_on_signals() as stop:
            run_consumer(settings, storage, trust=trust, secrets=secrets, now=now, jitter=jitter, stop=stop)
    else:
        signer = files.receipt_key()
        certificates = [one for one in files.authority().statements() if one.kind == KEY_CERTIFICATE]
        publisher = PublisherSettings(
            broker_settings(files, "receipts", f"receipts-{instance}"),
            poll_seconds=files.configuration.receipts.interval_milliseconds / 1000,
            origins_at_once=files.configuration.receipts.batch_origins_max,
        )
        wait_for_go()
        with stop_on_signals() as stop:
            run_receipt_publisher(
                publisher, storage, signer=signer, certificates=certificates, now=now, jitter=jitter, stop=stop
            )
    storage.close()


def wait_for_go() -> None:
    """Say that this process is ready, and wait to be told to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
