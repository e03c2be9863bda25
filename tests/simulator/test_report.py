"""The report is made of what was recorded, and of nothing else."""

import json
import re
from pathlib import Path

from tests.simulator.faults import Fault
from tests.simulator.found import FOUND, OPEN
from tests.simulator.measures import cuts
from tests.simulator.national import Month, live_region
from tests.simulator.report import robustness_report
from tests.simulator.swarm import Failure, Tally, read_tally, swarm, uses_real_keys

SIMULATOR = Path(__file__).parent
PLANTED = {
    "name": "purge on PUBACK",
    "breaks": "a broker's word frees",
    "invariant": "I2",
    "seeds_tried": 3,
    "seeds_max": 40,
    "violation": "I2: …",
}
MONTH = {
    "tablets": 21_000,
    "days": 30,
    "heal_days": 1,
    "regions": 42,
    "device_days": 651_000,
    "accepted": 7,
    "committed": 7,
}
MONTH |= {"purged": 7, "lost": 0, "faults": 5, "events": 9, "wall_seconds": 60, "cpu_seconds": 100, "jobs": 2}
MONTH |= {"resident_bytes_max": 1 << 28}


def test_the_report_tells_what_the_runs_recorded(tmp_path: Path) -> None:
    tally = swarm(range(3), jobs=1)
    tally.failures.append(Failure(7, False, "I1: a made-up failure"))
    lossy = cuts(lives=2)
    assert lossy["cuts"] > 1
    records = {
        "swarm": tally.as_json(),
        "planted": [PLANTED],
        "cuts": lossy,
        "national": MONTH,
        "speed": {"swarm, stub keys": 123.4},
    }
    for name, record in records.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    report = robustness_report(tmp_path, "abc1234")
    assert "commit abc1234" in report
    assert f"| device-days | {tally.device_days:,.0f} |" in report
    assert "seed 7: I1: a made-up failure" in report, "a failure must not be hidden"
    assert "| purge on PUBACK | a broker's word frees | I2 | 3 | 40 |" in report
    assert f"{lossy['cuts']} power cuts" in report
    assert "| swarm, stub keys | 123 |" in report
    assert all(fault.value in report for fault in Fault)
    assert all(bug.title in report for bug in (*FOUND, *OPEN))


def test_a_tally_survives_being_written_and_read() -> None:
    tally = swarm(range(3), jobs=1)
    again = read_tally(json.loads(json.dumps(tally.as_json())))
    assert again.states == tally.states
    assert again.faults == tally.faults
    assert again.device_days == tally.device_days
    assert again.failures == tally.failures == []
    assert Tally().as_json()["seeds"] == 0


def test_one_seed_in_25_has_real_keys() -> None:
    assert sum(map(uses_real_keys, range(1000))) == 40


def test_what_keeps_a_found_bug_out_is_there() -> None:
    for bug in (*FOUND, *OPEN):
        for name in re.findall(r"test_\w+\.py", bug.kept_out_by):
            places = [SIMULATOR / name, SIMULATOR.parent / "unit" / name]
            assert any(place.exists() for place in places), f"{name} is named by '{bug.title}' and does not exist"
        for name in re.findall(r"test_\w+(?!\w|\.py)", bug.kept_out_by):
            texts = [path.read_text() for path in SIMULATOR.glob("test_*.py")]
            assert any(f"def {name}(" in text for text in texts), f"there is no test {name}"


def test_a_region_of_the_national_month_loses_nothing() -> None:
    region = live_region(Month(tablets=4, regions=2, days=3), 1)
    assert region.tablets == 2
    assert region.accepted > 0
    assert region.committed == region.accepted == region.purged
    assert region.lost == 0
