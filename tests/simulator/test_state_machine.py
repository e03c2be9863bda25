"""Stories that hypothesis makes up: any verb after any other, the oracle looking on; what fails is made short.

CENSUS_SWARM=1 tells many more of them. The promise is that of every story: it ends well.
"""

import os
from collections.abc import Callable
from functools import wraps
from random import Random
from typing import Concatenate, ParamSpec

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, rule

from sync_protocol.identity import Standing
from sync_protocol.limits import PART_BYTES_MAX
from tests.simulator.clockwork import DAY, HOUR, MINUTE, SECOND
from tests.simulator.device import STEP_FAULTS
from tests.simulator.faults import Fault
from tests.simulator.scenario import Story

_YEAR = 365
_RESIDENTS_MAX = 5
_QUESTIONNAIRES_MAX = 40
_LARGE = Random(1).randbytes(PART_BYTES_MAX * 3 // 4).hex().encode()
"""Two parts."""

_NO_NEWS = ("serial=1", *(f"sent envelopes=0 attempts=1 link=mqtt-{number}" for number in range(1, 20)))
"""What a story that is told to somebody can do without: provisioning, and heads stated every hour."""

BROKER_TROUBLES: tuple[dict[str, float], ...] = (
    {},
    {"forgets": 1},
    {"forgets": 0.5, "receipts_lost": 0.5},
    {"duplicates": 1, "late": 0.5},
    {"slow": 1, "sends_lost": 1},
    {"refuses": 0.3, "sends_lost": 0},
)
CENTER_TROUBLES: tuple[dict[str, float], ...] = (
    {},
    {"dies_before_commit": 0.5, "stranded": 1},
    {"dies_after_commit": 0.5, "answer_lost": 0.5},
    {"publisher_dies": 0.5},
)

Parameters = ParamSpec("Parameters")


def told(
    verb: Callable[Concatenate["Stories", Parameters], None],
) -> Callable[Concatenate["Stories", Parameters], None]:
    """Remember when a rule fails: what is broken already need not end well."""

    @wraps(verb)
    def telling(self: "Stories", /, *arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        try:
            verb(self, *arguments, **named)
        except BaseException:
            self.broken = True
            raise

    return telling


class Stories(RuleBasedStateMachine):
    """Rules are the verbs of `Story`. A verb that has no meaning now does nothing."""

    devices: Bundle[str] = Bundle("devices")
    imaged: Bundle[str] = Bundle("imaged")

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.broken = False
        self.filled = 0

    @initialize(target=devices)
    def begin(self) -> MultipleResults[str]:
        self.story.enrols("Aigul", "Bolat")
        self.story.enrols("Laptop", laptop=True)
        return multiple("Aigul", "Bolat", "Laptop")

    def teardown(self) -> None:
        try:
            if not self.broken:
                self.story.ends_well()
        finally:
            note("\n".join(line for line in self.story.world.story or () if not line.endswith(_NO_NEWS)))
            self.story.close()

    # What people do.

    @rule(name=devices, count=st.integers(1, 3))
    @told
    def fills(self, name: str, count: int) -> None:
        if self.filled < _QUESTIONNAIRES_MAX:
            self.filled += count
            self.story.fills(name, count)

    @rule(name=devices)
    @told
    def fills_a_large_one(self, name: str) -> None:
        if self.filled < _QUESTIONNAIRES_MAX:
            self.filled += 5
            self.story.fills(name, body=_LARGE)

    @rule(name=devices)
    @told
    def opens_vpn(self, name: str) -> None:
        self.story.opens_vpn(name)

    @rule(name=devices)
    @told
    def shuts_vpn(self, name: str) -> None:
        self.story.shuts_vpn(name)

    @rule(time=st.sampled_from([SECOND, 10 * SECOND, MINUTE, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 3 * DAY]))
    @told
    def passes(self, time: int) -> None:
        self.story.passes(hours=time / HOUR)

    @rule(name=devices)
    @told
    def works_well(self, name: str) -> None:
        """A link and an hour: deep states are made of these."""
        self.story.opens_vpn(name)
        self.story.passes(hours=1)

    @rule(name=devices, minutes=st.sampled_from([0.005, 5.0]))
    @told
    def takes_the_stick(self, name: str, minutes: float) -> None:
        if self.story.is_up(name):
            self.story.carries("red stick", name, minutes=minutes, pulled=minutes < 1)

    @rule(one=devices, other=devices, minutes=st.sampled_from([0.002, 5.0]))
    @told
    def meet(self, one: str, other: str, minutes: float) -> None:
        if self.story.is_up(one) and self.story.is_up(other) and self.story.are_different(one, other):
            self.story.meet(one, other, minutes=minutes)

    # What goes wrong.

    @rule(name=devices, fault=st.sampled_from(STEP_FAULTS), step=st.integers(1, 3))
    @told
    def strikes(self, name: str, fault: Fault, step: int) -> None:
        self.story.strikes(name, fault, step=step)

    @rule(name=devices)
    @told
    def kills(self, name: str) -> None:
        self.story.kills(name)

    @rule(name=devices, minutes=st.sampled_from([1, 600]))
    @told
    def cuts_power(self, name: str, minutes: int) -> None:
        self.story.cuts_power(name, for_minutes=minutes)

    @rule(name=devices, full=st.booleans())
    @told
    def fills_or_frees_disk(self, name: str, full: bool) -> None:
        (self.story.fills_disk if full else self.story.frees_disk)(name)

    @rule(name=devices, days=st.sampled_from([0, -56 * _YEAR, 11 * _YEAR, -1, 1]))
    @told
    def sets_clock(self, name: str, days: int) -> None:
        self.story.sets_clock(name, days=days)

    @rule(name=devices)
    @told
    def loses_mirror(self, name: str) -> None:
        self.story.loses_mirror(name)

    @rule(name=devices, of=devices, number=st.sampled_from([0, -2]))
    @told
    def gets_receipt_again(self, name: str, of: str, number: int) -> None:
        try:
            self.story.gets_receipt_again(name, of=of, number=number)
        except IndexError:
            return

    @rule(name=devices)
    @told
    def gets_own_bundle_back(self, name: str) -> None:
        try:
            self.story.gets_own_bundle_back(name)
        except IndexError:
            return

    @rule(target=imaged, name=devices)
    def images(self, name: str) -> str:
        self.story.images(name)
        return name

    @rule(name=imaged)
    @told
    def rolls_back_queue(self, name: str) -> None:
        self.story.rolls_back_queue(name)

    @rule(name=imaged)
    @told
    def rolls_back(self, name: str) -> None:
        self.story.rolls_back(name)

    @rule(target=devices, name=imaged)
    def clones(self, name: str) -> MultipleResults[str]:
        if len(self.story.world.residents) >= _RESIDENTS_MAX:
            return multiple()
        twin = f"Twin {len(self.story.world.residents)}"
        self.story.clones(name, twin)
        return multiple(twin)

    # The center.

    @rule(recorded=st.sampled_from([True, True, False]))
    @told
    def backs_up(self, recorded: bool) -> None:
        if not self.story.world.database.is_down:
            self.story.backs_up(recorded=recorded)

    @rule(later=st.booleans())
    @told
    def restores(self, later: bool) -> None:
        if self.story.world.database.recorded_backups and not self.story.world.database.is_down:
            self.story.restores(later=later)

    @rule(minutes=st.sampled_from([1, 100]))
    @told
    def crashes_broker(self, minutes: int) -> None:
        if self.story.world.broker.is_up:
            self.story.crashes_broker(down_for_minutes=minutes)

    @rule(name=devices)
    @told
    def forgets_session(self, name: str) -> None:
        self.story.forgets_session(name)

    @rule(troubles=st.sampled_from(BROKER_TROUBLES))
    @told
    def troubles_broker(self, troubles: dict[str, float]) -> None:
        self.story.troubles_broker(**troubles)

    @rule(troubles=st.sampled_from(CENTER_TROUBLES))
    @told
    def troubles_center(self, troubles: dict[str, float]) -> None:
        self.story.troubles_center(**troubles)

    @rule(down=st.booleans())
    @told
    def stops_or_starts_database(self, down: bool) -> None:
        (self.story.stops_database if down else self.story.starts_database)()

    @rule(name=devices, standing=st.sampled_from([Standing.ACTIVE, Standing.LOST, Standing.REVOKED]))
    @told
    def gives_standing(self, name: str, standing: Standing) -> None:
        self.story.gives_standing(name, standing)

    @rule()
    @told
    def retries_held(self) -> None:
        if not self.story.world.database.is_down:
            self.story.retries_held()

    @rule(which=st.sampled_from(["recipient", "receipt"]))
    @told
    def rotates_key(self, which: str) -> None:
        (self.story.rotates_recipient_key if which == "recipient" else self.story.rotates_receipt_key)()


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=3000 if "CENSUS_SWARM" in os.environ else 45,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
