"""Two small lives, lived again and again with each fault at each step of their devices; CENSUS_SWARM=1 widens.

A life is lived once without a fault to count the steps of its engines.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import pytest

from tests.simulator.device import STEP_FAULTS
from tests.simulator.faults import Fault
from tests.simulator.scenario import Story

_WIDE = "CENSUS_SWARM" in os.environ
_RELAYS_STRIDE = 1 if _WIDE else 2
_SEEDS = range(5 if _WIDE else 1)


def tablet(story: Story) -> None:
    """Fill, send, be marked, be killed, purge, fill again."""
    story.enrols("Aigul")
    story.fills("Aigul", 2)
    story.opens_vpn("Aigul")
    story.passes(hours=1)
    story.kills("Aigul")
    story.waits_for("Aigul")
    story.backs_up()
    story.waits_for("Aigul")
    story.fills("Aigul")
    story.passes(hours=1)


def relay(story: Story) -> None:
    """A tablet without a VPN meets a neighbour and fills a stick; a laptop empties it, and receipts come back."""
    story.enrols("Aigul", "Bolat")
    story.enrols("Laptop", laptop=True)
    story.fills("Aigul", 2)
    story.opens_vpn("Laptop")
    story.waits_for("Aigul", "Bolat")
    story.meet("Aigul", "Bolat", minutes=5)
    story.fills("Aigul")
    for carrier in ("Aigul", "Bolat", "Laptop", "Aigul"):
        story.waits_for(carrier)
        story.carries("red stick", carrier, minutes=5)
        if carrier == "Laptop":
            story.backs_up()
    story.waits_for("Aigul", "Bolat")
    story.meet("Aigul", "Bolat", minutes=5)
    story.passes(minutes=1)


@cache
def steps_of(life: Callable[[Story], None], name: str) -> int:
    with Story() as story:
        life(story)
        steps = story.steps(name)
        story.ends_well()
    return steps


def cuts(life: Callable[[Story], None], name: str, fault: Fault, steps: range) -> Iterator[Story]:
    """Live a life once for each of these steps, with the fault at that step; yields it at its end."""
    for seed, step in product(_SEEDS, steps):
        with Story(seed=seed) as story:
            story.strikes(name, fault, step=step)
            life(story)
            assert story.world.faults.states[fault, "at all"] == 1
            yield story


each_fault = pytest.mark.parametrize("fault", STEP_FAULTS, ids=lambda fault: fault.name.lower())


@each_fault
def test_a_tablets_life_ends_well_with_a_fault_at_any_step(fault: Fault) -> None:
    last = steps_of(tablet, "Aigul")
    assert last > 15
    for story in cuts(tablet, "Aigul", fault, range(1, last + 1)):
        story.ends_well()
        story.database_has(3)
        assert story.purged("Aigul") == 3


@each_fault
@pytest.mark.parametrize("name", ["Aigul", "Bolat", "Laptop"])
def test_a_relays_life_ends_well_with_a_fault_at_any_step(name: str, fault: Fault) -> None:
    """Each step of each device meets every second of the faults, each fault every second step; all when wide."""
    first = 1 + STEP_FAULTS.index(fault) % _RELAYS_STRIDE
    last = steps_of(relay, name)
    assert last >= 10
    for story in cuts(relay, name, fault, range(first, last + 1, _RELAYS_STRIDE)):
        story.ends_well()
        story.database_has(3)
        assert story.purged("Aigul") == 3
        assert story.carried("Bolat") == story.carried("Laptop") == []
