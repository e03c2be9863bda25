"""What docs/mesh-delivery.md says besides its tables; words in braces are figures that `district_page` fills in."""

from __future__ import annotations

from typing import Final

HEAD: Final = """# What the mesh delivers

Written by `python -m tests.simulator districts` (`make mesh-study`) from runs at commit {commit}; do not edit by hand.

A district is lived for 14 days: villages, tablets whose people work in their village and meet others at shared places,
laptops of which few have a VPN. Engine, queue, acceptance and receipts are the real ones, with stub keys. The same
days (the same meetings, questionnaires and VPNs, to the microsecond) are lived with each policy. {runs} runs with
{seeds} seeds, {questionnaires} questionnaires and {events} events; the oracle of `docs/robustness.md` watched every one
of them, and after its 14 days each was let drain until all accounts balanced (within {days}): no violation.
{minutes} minutes of one core.
"""
MEANING: Final = """## What it means for an operator

Tablets that only hand over to a laptop, or to whoever has a VPN at that moment (direct only), leave behind whoever does
not get there: of the questionnaires older than three days {sparse_direct_old} % are at the center in a sparse district,
{normal_direct_old} % in a normal one, {dense_direct_old} % in a dense one. With the mesh it is {sparse_spray_old} %,
{normal_spray_old} % and {dense_spray_old} %, because those who do get there take the others' along; flooding everybody
with everything would make it {sparse_epidemic_old} %, {normal_epidemic_old} % and {dense_epidemic_old} %. What the mesh
cannot do is to make journeys: in a sparse district most waiting is for somebody who goes to the district center. So
send one interviewer of each village group there (or the laptop of the akimat, or a stick) once or twice a week, and
have those who go meet the others first: a quarter of an hour in one room with the tablets on is enough. Half of a normal
district's questionnaires are at the center after {normal_spray_committed}, and their sync mark is back on their tablet
after {normal_spray_marked}; a tablet without marks for a week is no reason to worry there, a tablet that meets nobody is.
A tablet holds a few megabytes for others; nobody need make room for it.
"""
MODEL: Final = """Every tablet submits 9.5 questionnaires a day, between 9:00 and 19:00, with 2.3 KB an envelope. Two who
are at one place at once meet: at the school or the shop with an access point of a village at noon and at dusk for 20
minutes to an hour, at an akimat for 20 minutes in the morning, in the district center for half an hour to an hour and a
half about noon. Tablets have no VPN but in the center; no device is ever lost and no clock wrong, unless a table says
so. The center makes its backup each night at 3:00: behind it, carriers let go. How it is drawn is in
`tests/simulator/district.py`.

Figures are the mean ± the standard deviation between seeds. Delays are of the questionnaires of the first seven days,
each watched for seven days: one that took longer, or never came, counts as seven, and where that moves a figure it has
a “>”. A copy is an envelope sent from device to device; hops are how often it was handed on before it first came to the
center. Over the air is what the engines sent (bundles and what they say of what they have), without TLS and discovery.
"""
LEAVING_WORDS: Final = """The same where every third tablet goes away for good on some day, with all that it carries:
"""
LARGE_WORDS: Final = """LARGE
"""
CHOICE: Final = """CHOICE
"""
RULES_MEAN: Final = """RULES
"""
