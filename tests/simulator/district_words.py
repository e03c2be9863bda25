"""What docs/mesh-delivery.md says besides its tables; words in braces are figures that `district_page` fills in."""

from __future__ import annotations

from typing import Final

HEAD: Final = """# What the mesh delivers

Written by `python -m tests.simulator districts` (`make mesh-study`) from runs at commit {commit}; do not edit by
hand.

A district is lived for 14 days: villages, tablets whose people work in their village and meet others at shared
places, laptops of which few have a VPN. Engine, queue, acceptance and receipts are the real ones, with stub keys. The
same days (the same meetings, questionnaires and VPNs, to the microsecond) are lived with each policy: {runs} runs
with {seeds} seeds, {questionnaires} questionnaires, {events} events, {minutes} minutes of one core. The oracle of
`robustness.md` watched all of them, and after its 14 days each was let drain until all accounts balanced, which took
{days} at most. There was no violation.
"""
MEANING: Final = """## What it means for an operator

Where tablets hand over only to a laptop, or to whoever has a VPN at that moment (direct only), whoever does not get
there is left behind: of the questionnaires older than three days {sparse_direct_old} % are at the center in a sparse
district, {normal_direct_old} % in a normal one, {dense_direct_old} % in a dense one. With the mesh it is
{sparse_spray_old} %, {normal_spray_old} % and {dense_spray_old} %, because those who do get there take the others'
along (to flood everybody with everything would make it {sparse_epidemic_old} %, {normal_epidemic_old} % and
{dense_epidemic_old} %). What the mesh cannot do is to travel: in a sparse district nearly all waiting is for somebody
who goes where a VPN is. In the normal district three tablets in ten go to the center, each about twice a week; where
nobody can, a stick or the laptop of the akimat has to make the journey. Whoever goes should have been in one room
with the others before, with the tablets on. Half of a normal district's questionnaires are at the center after
{normal_spray_committed}, and the sync mark is back on the tablet after {normal_spray_marked}: more than one in ten
waits longer than a week for it, so a week without marks is no fault there; a tablet that has met nobody for a week
needs a visit. What a tablet holds for others is one or two megabytes: nobody need make room for it.
"""
MODEL: Final = """Every tablet submits 9.5 questionnaires a day, between 9:00 and 19:00, of 2.3 KB each when sealed.
Two who are at one place at once meet: at the school or the shop with an access point of a village at noon and at dusk
for 20 minutes to an hour, at an akimat for 20 minutes in the morning, in the district center about noon for half an
hour to an hour and a half. Tablets have no VPN but in the center. Nothing fails but meetings that end: no device is
lost and no clock wrong, unless a table says so; two who meet always find each other, and have time for all that they
have. The center makes its backup each night at 3:00, and behind it carriers let go. How it is drawn is told in
`tests/simulator/district.py`. These are assumptions, not measurements of a district: what they are good for is to
compare policies.

Figures are the mean ± the standard deviation between seeds. Delays are of the questionnaires of the first seven days,
each watched for seven days: one that took longer, or never came, counts as seven, and where that moves a figure it
has a “>”. A copy is an envelope sent from device to device; hops are how often it was handed on before it first came
to the center. Over the air is what the engines sent (bundles, and what they say of what they have), without TLS and
discovery.
"""
LEAVING_WORDS: Final = "The same where every third tablet goes away on some day for good, with all that it carries:"
CHOICE: Final = """Fewer or more copies and earlier or later new ones change little: against 8 copies and 3 days in
the normal district, 2 copies make {normal_two}, 16 copies {normal_sixteen}; new ones after a day {normal_sooner}, and
never {normal_never}. One reason is that the last copy walks on: whoever gets it gives it to the next tablet and keeps
the envelope all the same until a receipt comes, so the number of copies bounds how many walk, not how many devices
hold it. Where devices go away for good, new copies hardly show either. Nothing here speaks against 8 and 3 days, and
nothing for a finer choice.
"""
LARGE_WORDS: Final = """A large district, to see what grows with the number of tablets: 40 in 8 villages with 4
akimats, otherwise as the dense one, with one questionnaire a day and tablet (so what two say of what they have weighs
more over the air). Three seeds:
"""
RULES_MEAN: Final = """Mean gain of questionnaires older than three days, and mean cost, against the policy as built:

- **To give everything to a tablet that has heard the center clearly later** (an hour or more) than this one, whatever
  copies are left: {sparse_uphill} in the sparse district, {normal_uphill} in the normal one, {dense_uphill} in the
  dense one. Here those who travel are always the same ones, which is what this rule counts on. Most of the gain is of
  one seed in five.

- **The last copy only to such a tablet**, as in the paper on spray and focus: {sparse_nearer}, {normal_nearer},
  {dense_nearer}. Cheaper; but
  along a line of tablets that have never heard the center, each of which meets only the next, the fifth never gets it
  (8 copies can be halved three times), and as built all do.

- **Both**, with the last copy waiting for such a tablet: {sparse_both}, {normal_both}, {dense_both}.

- **Without the gradient**: {normal_flat} in the normal district, {dense_flat} in the dense one. Flooding:
  {normal_flood} and {dense_flood}.

- **Collection points**: to give tablets nothing {normal_keeps}, everything {normal_gives} (normal district). Two
  collection points never meet here.
"""
