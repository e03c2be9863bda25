"""Signed receipts out of an open issue. Chains are kept between receipts and grow by what was committed since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from central_broker.receipts import Chain
from central_broker.storage.receipt_records import ReceiptGrant, ReceiptIssue, Want
from sync_protocol.identity import signer_name
from sync_protocol.keys import Signer
from sync_protocol.receipt import sign_receipt
from sync_protocol.statement import parse_statement

CHAINS_MAX: Final = 1_000
"""Chains kept; one of a census month takes some 80 KB."""

CHANGES_MAX: Final = 20_000
"""Rows read at once to catch up; beyond it the chains are read anew when they are wanted."""


class ReceiptMaker:
    """Makes the receipts of one publisher process; forget() after any failure."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._signer_name = signer_name(signer.public_bytes)
        self._chains: OrderedDict[bytes, tuple[int, Chain]] = OrderedDict()
        self._clock: int | None = None

    def forget(self) -> None:
        """Drop every chain: the database may be another one now (restored, failed over)."""
        self._chains.clear()
        self._clock = None

    def make(self, issue: ReceiptIssue, wants: Sequence[Want]) -> dict[bytes, bytes]:
        """Store a receipt for every want that needs a new one; return each origin's newest receipt."""
        self._catch_up(issue)
        fresh = {want.origin for want in wants if want.fresh}
        made = {}
        for grant in issue.grants:
            if grant.origin not in fresh and grant.last is not None and self._may_repeat(grant, grant.last):
                made[grant.origin] = grant.last
                continue
            spans = self._chain(issue, grant).spans(grant.run_ends)
            signed = sign_receipt(
                self._signer, origin=grant.origin, serial=grant.serial, watermark=issue.watermark, spans=spans
            )
            issue.store(grant.origin, grant.serial, signed.data)
            made[grant.origin] = signed.data
        return made

    def _may_repeat(self, grant: ReceiptGrant, last: bytes) -> bool:
        """A head that is behind asks for what there is already; a new serial would make its next head behind again."""
        return grant.republishable and parse_statement(last).signer == self._signer_name

    def _catch_up(self, issue: ReceiptIssue) -> None:
        if self._clock is None:
            return
        changes = issue.changes(self._clock, CHANGES_MAX)
        if changes is None:
            self.forget()
            return
        self._clock, rows = changes
        for origin, row in rows:
            known = self._chains.get(origin)
            if known is not None and row.committed_at > known[0] and not known[1].extend(row):
                del self._chains[origin]

    def _chain(self, issue: ReceiptIssue, grant: ReceiptGrant) -> Chain:
        origin = grant.origin
        known = self._chains.get(origin)
        if known is None or known[1].newest_epoch < grant.newest_epoch:
            clock, rows = issue.chain(origin)
            known = (clock, Chain(rows, grant.newest_epoch))
            self._chains[origin] = known
            # The first chain sets the clock; later ones are ahead of it and pass over what they know already.
            self._clock = clock if self._clock is None else self._clock
            if len(self._chains) > CHAINS_MAX:
                self._chains.popitem(last=False)
        else:
            self._chains.move_to_end(origin)
        return known[1]
