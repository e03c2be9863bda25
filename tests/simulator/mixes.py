"""Which troubles a random life has: groups of faults that are on or off by seed, and how strong (swarm testing).

A life with everything at once hides as much as it shows: what one fault would break, another one mends. So every seed
draws its own subset.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.simulator.broker import BrokerTroubles
from tests.simulator.center import CenterTroubles
from tests.simulator.clockwork import HOUR
from tests.simulator.sticks import MediumTroubles


class Group(StrEnum):
    """Kinds of trouble that come together."""

    POWER = "power"
    DISK = "disk"
    CLOCKS = "clocks"
    LINKS = "links"
    BROKER = "broker"
    CENTER = "center"
    RESTORES = "center restored"
    ROLLBACKS = "tablets rolled back"
    CLONES = "tablets cloned"
    THEFT = "theft and destruction"
    OPERATOR = "operator"
    KEYS = "key rotation"
    HOSTILE = "stale, foreign and forged receipts"
    STICKS = "sticks"
    STICK_DAMAGE = "damaged and swapped sticks"
    MESH = "neighbours"


@dataclass(frozen=True)
class Mix:
    """The troubles of one life. Rates without another word are probabilities for each device and day."""

    groups: frozenset[Group]
    tablets: int
    laptops: int
    sticks: int
    days: int
    questionnaires: float
    """Mean number for each tablet and day."""
    linked: float
    """The part of the tablets that ever has a VPN; the others need sticks, neighbours, or the end of all faults."""
    parts: float
    step_faults: float
    """For each step of a device."""
    kills: float
    power_cuts: float
    disk_full: float
    clock_jumps: float
    broker: BrokerTroubles
    broker_crashes: float
    center: CenterTroubles
    database_down: float
    center_clock_back: float
    backups: float
    backups_unrecorded: float
    restores: float
    """For each day of the center."""
    images: float
    queue_rollbacks: float
    tablet_rollbacks: float
    clones: float
    destroyed: float
    stolen: float
    revoked: float
    replaced: float
    unknown_forms: float
    """For each questionnaire."""
    key_rotations: float
    hostile: float
    trips: float
    medium: MediumTroubles
    pulled: float
    twins: float
    sticks_lost: float
    meetings: float
    """For each pair of devices and day."""
    head_interval: int
    """How often devices state their heads when nothing changes, microseconds."""
    lossy_disks: bool
    """Whether the devices' disks forget at a power cut whatever was not synced."""
    sticks_called_in: float


def draw_mix(random: Random) -> Mix:
    """Draw a mix. One life in eight has hardly any trouble, one in eight has every kind."""
    kind = random.randrange(8)
    if kind == 0:
        groups = set(random.sample(list(Group), 1))
    elif kind == 1:
        groups = set(Group)
    else:
        share = 0.2 + 0.5 * random.random()
        groups = {group for group in Group if random.random() < share}
    # Two that only make sense with what they damage.
    if Group.STICK_DAMAGE in groups:
        groups.add(Group.STICKS)

    def when(group: Group, *rates: float) -> float:
        drawn = random.choice(rates)
        return drawn if group in groups else 0.0

    return Mix(
        groups=frozenset(groups),
        tablets=random.choice((1, 2, 2, 3, 4)),
        laptops=random.choice((0, 1, 1, 2)) if groups & {Group.STICKS, Group.MESH} else random.choice((0, 0, 1)),
        sticks=random.choice((1, 2)) if Group.STICKS in groups else 0,
        days=30 if random.random() < 0.04 else random.choice((2, 2, 3, 4, 4, 6, 8, 8, 14)),
        questionnaires=random.choice((0.5, 1, 1, 3)),
        linked=random.choice((0.3, 0.7, 1.0)),
        parts=random.choice((0, 0, 0.02)),
        step_faults=when(Group.POWER, 0.002, 0.01, 0.04),
        kills=when(Group.POWER, 0.05, 0.3),
        power_cuts=when(Group.POWER, 0.05, 0.3),
        disk_full=when(Group.DISK, 0.05, 0.2),
        clock_jumps=when(Group.CLOCKS, 0.05, 0.3),
        broker=BrokerTroubles(
            forgets=when(Group.BROKER, 0.02, 0.3),
            refuses=when(Group.BROKER, 0.02, 0.2),
            duplicates=when(Group.LINKS, 0.05, 0.3),
            late=when(Group.LINKS, 0.02, 0.2),
            slow=when(Group.LINKS, 0.01, 0.1),
            sends_lost=random.choice((0.2, 0.8)),
            receipts_lost=when(Group.BROKER, 0.1, 0.5),
        ),
        broker_crashes=when(Group.BROKER, 0.1, 0.5),
        center=CenterTroubles(
            dies_before_commit=when(Group.CENTER, 0.02, 0.1),
            dies_after_commit=when(Group.CENTER, 0.02, 0.1),
            answer_lost=when(Group.CENTER, 0.02, 0.1),
            publisher_dies=when(Group.CENTER, 0.02, 0.1),
            stranded=random.choice((0.1, 0.9)),
        ),
        database_down=when(Group.CENTER, 0.1, 0.4),
        center_clock_back=when(Group.CLOCKS, 0.02, 0.1),
        backups=random.choice((0.1, 0.5, 1.0)),
        backups_unrecorded=when(Group.RESTORES, 0.05, 0.3),
        restores=when(Group.RESTORES, 0.05, 0.2),
        images=0.2 if groups & {Group.ROLLBACKS, Group.CLONES} else 0,
        queue_rollbacks=when(Group.ROLLBACKS, 0.03, 0.1),
        tablet_rollbacks=when(Group.ROLLBACKS, 0.02, 0.05),
        clones=when(Group.CLONES, 0.02, 0.04),
        destroyed=when(Group.THEFT, 0.01, 0.04),
        stolen=when(Group.THEFT, 0.01, 0.04),
        revoked=when(Group.OPERATOR, 0.01, 0.04),
        replaced=when(Group.OPERATOR, 0.01, 0.03),
        unknown_forms=when(Group.OPERATOR, 0.05, 0.2),
        key_rotations=when(Group.KEYS, 0.1, 0.4),
        hostile=when(Group.HOSTILE, 0.3, 2.0),
        trips=when(Group.STICKS, 0.3, 1.0),
        medium=MediumTroubles(
            torn=when(Group.STICK_DAMAGE, 0.05, 0.2),
            rotten=when(Group.STICK_DAMAGE, 0.1, 0.4),
            full=when(Group.STICK_DAMAGE, 0.05, 0.2),
            read_only=when(Group.STICK_DAMAGE, 0.05, 0.1),
            failing=when(Group.STICK_DAMAGE, 0.1, 0.3),
        ),
        pulled=when(Group.STICK_DAMAGE, 0.1, 0.4),
        twins=when(Group.STICK_DAMAGE, 0.05, 0.1),
        sticks_lost=when(Group.STICK_DAMAGE, 0.02, 0.1),
        meetings=when(Group.MESH, 0.2, 0.8),
        head_interval=random.choice((HOUR, 6 * HOUR)),
        lossy_disks=Group.POWER in groups and random.random() < 0.1,
        # Drawn last, so that older seeds keep the rest of their lives.
        sticks_called_in=when(Group.OPERATOR, 0.05, 0.15) if Group.STICKS in groups else 0.0,
    )
