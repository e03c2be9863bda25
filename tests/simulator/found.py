"""The bugs that the simulator has found: what shows each, at which commit, and the directed test that keeps it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FoundBug:
    """`seen_with` reproduces it at `commit`, the last one that had it."""

    title: str
    story: str
    seen_with: str
    commit: str
    kept_out_by: str


FOUND: tuple[FoundBug, ...] = (
    FoundBug(
        "A receipt ended the custody of another branch of a forked chain",
        "A tablet and its clone sealed different questionnaires at the same places of their chain. A neighbour carried "
        "both branches. The center had one of them; its receipt named the places, and the neighbour marked and dropped "
        "what lay at those places, the other branch included. Receipts vouch for ids now, never for places alone "
        "(decision 16).",
        "python -m tests.simulator seed 92",
        "86ea17f",
        "test_stories_of_couriers.py, test_engine_duplex.py",
    ),
    FoundBug(
        "What was accepted after a start that the disk had spoiled was lost at the next power cut",
        "A sync of the write-ahead log failed while the daemon started, and it ended. The next start found the log "
        "in the system's memory, which takes pages for written after a failed sync, went on appending, and "
        "acknowledged. A power cut took the middle of the log that never was on the disk, and everything after it. "
        "The log is moved into the database and begun anew at every start now.",
        "CENSUS_CUTS=5000 pytest tests/simulator/test_lossy_disk.py with queue/store.py of that commit",
        "bc7fbbe",
        "test_lossy_disk.py: test_what_is_accepted_after_a_start_that_the_disk_spoiled_survives_a_cut",
    ),
    FoundBug(
        "The head mirror trusted a position that was never on the disk",
        "A sync of the mirror failed and the process ended; the next one read the position from the system's memory, "
        "held it for durable and sent. After a power cut the mirror was behind what had left the device, and a "
        "rolled-back queue would not have been noticed. Cached pages are given up at every start now.",
        "lossy lives, seed 2498, with queue/mirror.py of that commit",
        "bc7fbbe",
        "test_lossy_disk.py: test_a_mirror_that_was_not_settled_is_not_trusted_by_the_next_process",
    ),
    FoundBug(
        "An origin never purged when a relay had carried its envelopes",
        "A relay stopped asking for an origin's receipts once it had dropped its envelopes. The receipt with the "
        "backup watermark came later, and nobody brought it back: the origin kept everything for ever. Relays now "
        "follow every origin whose head is not fully answered.",
        "pytest tests/unit/test_engine_duplex.py with engine/sessions.py of that commit",
        "7108abf",
        "test_engine_duplex.py",
    ),
    FoundBug(
        "Certificates came after what they vouch for",
        "On a stick or between neighbours, own heads and envelopes left before the certificates: a reader that had "
        "never met their origin refused them, and the sender took them for handed over. Every bundle on such a link "
        "now brings the certificates of what is in it.",
        "pytest tests/unit/test_engine_duplex.py with engine/sessions.py of that commit",
        "7108abf",
        "test_engine_duplex.py",
    ),
    FoundBug(
        "A tablet woke without end while the broker refused",
        "A broker without consumers refuses bundles, and the session leaves it in peace, longer each time. When the "
        "hour came to state the heads again, the session asked to be woken at once, stated nothing because it was "
        "resting, and asked again: a processor at full speed, on a battery, for up to twelve minutes of every hour. "
        "Heads that are overdue rest, too, now.",
        "python -m tests.simulator seed 916",
        "9fb1268",
        "test_stories.py: test_a_broker_that_refuses_for_hours_keeps_no_device_awake",
    ),
    FoundBug(
        "A receipt from before a restore took the last copy from a carrier",
        "A tablet's envelopes came to the center over a stick, and the receipt lay on the stick, too. The tablet was "
        "destroyed, and the center restored from a backup that did not have them yet. The next laptop took the "
        "envelopes over from the stick, read the old receipt there, and let them go: nobody brought them to the center "
        "again, though the stick had them. A carrier now keeps what it carries until the commit lies behind the backup "
        "watermark, as an origin does, and offers it again after a day without a newer receipt.",
        "python -m tests.simulator seed 7338",
        "1c76a7c",
        "test_stories_of_couriers.py: test_a_receipt_from_before_a_restore_does_not_take_the_last_copy_from_a_carrier",
    ),
    FoundBug(
        "A broker that forgot cost the only copy of a branch",
        "A tablet was put back to an older image whole and filled the same places again; a neighbour had the only copy "
        "of what it had filled before. The broker acknowledged that copy and forgot it; the next receipt covered its "
        "places, by the other branch, and the neighbour let go. Nobody's word but the center's counts now, and that by "
        "id: its receipts end a span with the last of each run of envelopes that a carrier brought.",
        "python -m tests.simulator seed 6731",
        "1c76a7c",
        "test_stories_of_couriers.py: test_a_broker_that_forgets_does_not_cost_the_only_copy_of_a_branch",
    ),
)


OPEN: tuple[FoundBug, ...] = ()
"""Found, and not mended yet: their stories are tests that are expected to fail, and fail the day they do not."""
