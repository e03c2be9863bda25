"""Envelopes between two neighbours: offered by their ids, sent when they are wanted, and the same the other way.

| event | what follows |
|---|---|
| there is something for the far end, no offer is open, and little that it wants still waits | an offer |
| verdict wanted | the envelope waits for a bundle |
| verdict held | a handover: it rests for the custody wait |
| verdict no room | it rests for the decline wait |
| verdict later | it is on its way there from another neighbour: it rests for the later wait |
| taken, in a bundle | a handover; the copies that went with it are ours no more |
| declined, in a bundle | as no room |
| a bundle is refused | its envelopes are offered again in their time, with copies promised anew |
| the far end offers | a verdict on each: held when its row is here, later when another link brings it, no room when
there is none, wanted otherwise |

What is offered counts as under way until it is answered, so nobody offers it twice on one link; when the link goes
down it is due again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from edge_agent.engine.routing import COPIES_MAX, Share, copies_given
from edge_agent.engine.settings import MINUTE, SECOND, EngineSettings
from edge_agent.engine.store import EnvelopeStanding, Openings, StoredEnvelope, StoreTransaction
from sync_protocol.limits import MESH_OFFER_ENVELOPES_MAX
from sync_protocol.mesh import Offer, Offered, Verdict, Verdicts

_WANTED_ENOUGH: Final = 256
"""As long as so many wait to be sent, the next offer waits: the verdicts come before they are all gone."""
_EXPECTED_MAX: Final = 4 * MESH_OFFER_ENVELOPES_MAX
_BROUGHT_WITHIN: Final = 2 * MINUTE
"""After this long, whoever was to bring an envelope is not waited for any more."""
_SILENT_FOR: Final = 15 * SECOND
"""Nor is a neighbour that has brought nothing for so long: it may have walked away, which its link shows much later."""


@dataclass(frozen=True)
class _Asked:
    """How an envelope was asked for: last on this link since then, and of anybody since `first_at`."""

    link_key: str
    copies: int
    at: int
    first_at: int


class Expected:
    """Which envelopes were asked for, on all links of a device: none is asked of two neighbours at once."""

    def __init__(self) -> None:
        self._asked: dict[bytes, _Asked] = {}
        self._brought_at: dict[str, int] = {}

    def is_brought(self, envelope_id: bytes, link_key: str, now: int) -> bool:
        """Tell whether another link than this one is about to bring it."""
        asked = self._asked.get(envelope_id)
        if asked is None or asked.link_key == link_key or not 0 <= now - asked.first_at < _BROUGHT_WITHIN:
            return False
        return 0 <= now - max(asked.at, self._brought_at.get(asked.link_key, asked.at)) < _SILENT_FOR

    def want(self, envelope_id: bytes, link_key: str, copies: int, now: int) -> None:
        """Note that it was asked for on a link, and with how many copies to make it is to come.

        Who offers the same again and does not bring it gains no time by that, be they one or several: others are
        waiting.
        """
        before = self._asked.pop(envelope_id, None)
        at = now if before is None or before.link_key != link_key else min(before.at, now)
        first_at = now if before is None else min(before.first_at, now)
        self._asked[envelope_id] = _Asked(link_key, min(copies, COPIES_MAX), at, first_at)
        if len(self._asked) > _EXPECTED_MAX:
            del self._asked[next(iter(self._asked))]

    def take(self, envelope_id: bytes, link_key: str, now: int) -> int:
        """Return how many copies to make come with an envelope that has arrived on a link."""
        asked = self._asked.pop(envelope_id, None)
        if asked is None or asked.link_key != link_key:
            return 0
        self._brought_at[link_key] = now
        return asked.copies

    def forget(self, link_key: str) -> None:
        """A link is over: what it was to bring may come over another one."""
        self._asked = {one: asked for one, asked in self._asked.items() if asked.link_key != link_key}
        self._brought_at.pop(link_key, None)

    def clear(self) -> None:
        """Every link is over."""
        self._asked.clear()
        self._brought_at.clear()


@dataclass(frozen=True)
class _Look:
    """When everything was last looked through for something to offer, so that nothing more was left."""

    share: Share
    at: int
    openings: Openings


class Promises:
    """Copies to make that are to go with what is on offer or on its way, on all links of a device: none is given to
    two neighbours who are here at once.
    """

    def __init__(self) -> None:
        self._copies: Counter[int] = Counter()

    def of(self, number: int) -> int:
        """Return how many are promised of an envelope."""
        return self._copies[number]

    def make(self, number: int, copies: int) -> None:
        """Note that so many are to go."""
        self._copies[number] += copies

    def end(self, number: int, copies: int) -> None:
        """Note that they have gone, or will not go."""
        self._copies[number] -= copies
        if self._copies[number] <= 0:
            del self._copies[number]

    def clear(self) -> None:
        """Every link is over."""
        self._copies.clear()


class Offers:
    """One link's, both ways."""

    def __init__(
        self, link_key: str, far_end: bytes, settings: EngineSettings, expected: Expected, promises: Promises
    ) -> None:
        self._link_key = link_key
        self._far_end = far_end
        self._settings = settings
        self._expected = expected
        self._promises = promises
        self._offer_numbers = count(1)
        self._open: tuple[int, tuple[int, ...]] | None = None
        self._wanted: deque[int] = deque()
        self._given: dict[int, int] = {}
        self._look: _Look | None = None

    # What this device offers.

    def next_offer(self, share: Share, transaction: StoreTransaction, now: int) -> Offer | None:
        """Return the next offer, if it is time for one and there is anything to offer."""
        if share is Share.NOTHING or self._open is not None or len(self._wanted) >= _WANTED_ENOUGH:
            return None
        openings = transaction.openings()
        after = self._looked_through(share, openings, transaction, now)
        if after == openings.newest_number:
            return None
        offerable = transaction.offerable(
            self._far_end, now, spray=share is Share.SPRAY, count_max=MESH_OFFER_ENVELOPES_MAX, after=after
        )
        left = {one.number: max(0, one.copies - self._promises.of(one.number)) for one in offerable}
        # What has no copy left may have one again when another neighbour has not wanted it.
        chosen = [one for one in offerable if left[one.number] or share is not Share.SPRAY]
        is_all = len(chosen) == len(offerable) < MESH_OFFER_ENVELOPES_MAX
        self._look = _Look(share, now, openings) if is_all else None
        if not chosen:
            return None
        numbers = tuple(envelope.number for envelope in chosen)
        given = [copies_given(share, left[number]) for number in numbers]
        for one, copies in zip(numbers, given, strict=True):
            self._given[one] = copies
            self._promises.make(one, copies)
        transaction.note_offered(self._far_end, numbers, now=now, next_at=now + self._settings.receipt_wait_max)
        number = next(self._offer_numbers)
        self._open = (number, numbers)
        offered = (Offered(one.id, one.bytes, copies) for one, copies in zip(chosen, given, strict=True))
        return Offer(number, tuple(offered))

    def _looked_through(self, share: Share, openings: Openings, transaction: StoreTransaction, now: int) -> int:
        """Return up to which number there is nothing to offer, as far as is known; 0 when all have to be looked at.

        This is asked at every step, and a device may keep a hundred thousand envelopes that are not for this far end.
        """
        look = self._look
        if look is None or look.share is not share or look.openings.reopened != openings.reopened or now < look.at:
            return 0
        due_at = transaction.next_due_at(self._far_end, after=look.at)
        return look.openings.newest_number if due_at is None or due_at > now else 0

    def heard_verdicts(
        self, verdicts: Verdicts, transaction: StoreTransaction, now: int, custody_wait: int
    ) -> dict[Verdict, int]:
        """Do what the far end's verdicts mean; return how many there were of each."""
        if self._open is None or self._open[0] != verdicts.number:
            return {}
        numbers, self._open = self._open[1], None
        by_verdict: dict[Verdict, list[int]] = {}
        for number, verdict in zip(numbers, verdicts.verdicts, strict=False):
            by_verdict.setdefault(verdict, []).append(number)
        self._wanted += by_verdict.get(Verdict.WANTED, [])
        held = by_verdict.get(Verdict.HELD, [])
        transaction.note_answered(self._far_end, held, now=now, next_at=now + custody_wait, kept=True)
        self.declined(by_verdict.get(Verdict.NO_ROOM, []), transaction, now)
        later = by_verdict.get(Verdict.LATER, [])
        transaction.note_answered(self._far_end, later, now=now, next_at=now + self._settings.later_wait)
        for number in (*held, *later):
            self._keep_promise(number)
        return {verdict: len(found) for verdict, found in by_verdict.items()}

    def due(self, transaction: StoreTransaction, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        """Return those that the far end wants and that come next, as `StoreTransaction.due` does."""
        found = transaction.stored(tuple(self._wanted), bytes_max=bytes_max)
        if not found:
            while self._wanted:
                self._keep_promise(self._wanted.popleft())
        return found

    def sent(self, numbers: Sequence[int]) -> None:
        """Note that these have left, in this order; what lay between them is not here any more."""
        left = frozenset(numbers)
        while self._wanted and (number := self._wanted.popleft()) != numbers[-1]:
            if number not in left:
                self._keep_promise(number)

    def taken(self, numbers: Iterable[int], transaction: StoreTransaction) -> None:
        """Note that copies to make went with these."""
        transaction.give_copies({number: given for number in numbers if (given := self._keep_promise(number))})

    def refused(self, numbers: Iterable[int]) -> None:
        """Note that no copies went with these."""
        for number in numbers:
            self._keep_promise(number)

    def declined(self, numbers: Sequence[int], transaction: StoreTransaction, now: int) -> None:
        """Let what the far end has no room for rest."""
        for number in numbers:
            self._keep_promise(number)
        transaction.note_answered(self._far_end, numbers, now=now, next_at=now + self._settings.decline_wait)

    def stopped(self) -> list[int]:
        """Forget everything; return what was on offer, or wanted, and has not left."""
        numbers = [*self._wanted, *(self._open[1] if self._open is not None else ())]
        self._wanted.clear()
        self._open = None
        for number in tuple(self._given):
            self._keep_promise(number)
        self._expected.forget(self._link_key)
        return numbers

    def _keep_promise(self, number: int) -> int:
        """Return how many copies were to go with an envelope; they are promised no more."""
        given = self._given.pop(number, 0)
        self._promises.end(number, given)
        return given

    # What the far end offers.

    def judge(self, offer: Offer, transaction: StoreTransaction, now: int) -> Verdicts:
        """Return a verdict on each envelope, and note which of them are to come."""
        room = self._settings.foreign_bytes_max - transaction.foreign_bytes()
        verdicts: list[Verdict] = []
        for offered in offer.envelopes:
            if transaction.standing_of(offered.id) is not EnvelopeStanding.UNKNOWN:
                verdicts.append(Verdict.HELD)
            elif self._expected.is_brought(offered.id, self._link_key, now):
                verdicts.append(Verdict.LATER)
            elif offered.size_bytes > room:
                verdicts.append(Verdict.NO_ROOM)
            else:
                room -= offered.size_bytes
                verdicts.append(Verdict.WANTED)
                self._expected.want(offered.id, self._link_key, offered.copies, now)
        return Verdicts(offer.number, tuple(verdicts))
