"""What is measured with: real household questionnaires where the sample data are, else made-up ones."""

from __future__ import annotations

import gzip
from itertools import cycle, islice
from typing import Final

from demo.households import households
from sync_protocol.content import MEDIA_TYPE_JSON, Questionnaire
from tests.support.shared_data import shared_data_folder

FORM: Final = "household"
FORM_VERSION: Final = "1996"
_CREATED_AT: Final = 1_633_000_000_000_000
_SEED: Final = 20_211_001


class Questionnaires:
    """An endless supply: bodies come again, instance ids do not."""

    def __init__(self) -> None:
        path = shared_data_folder() / "popstan" / "households.jsonl.gz"
        if path.exists():
            self.source = "Popstan households"
            self._bodies = [line for line in gzip.decompress(path.read_bytes()).splitlines() if line.strip()]
        else:
            self.source = "made-up households"
            self._bodies = list(households(_SEED, 2_000))
        self._given = 0

    @property
    def bytes_mean(self) -> float:
        """The mean size of a body."""
        return sum(map(len, self._bodies)) / len(self._bodies)

    def bodies(self, count: int) -> list[bytes]:
        """The first so many bodies, from the beginning again when there are fewer."""
        return list(islice(cycle(self._bodies), count))

    def take(self, count: int) -> list[Questionnaire]:
        """The next so many questionnaires, each with an instance id of its own."""
        first, self._given = self._given, self._given + count
        bodies = islice(cycle(self._bodies), first % len(self._bodies), None)
        return [
            Questionnaire(FORM, FORM_VERSION, f"uuid:{number:032x}", MEDIA_TYPE_JSON, _CREATED_AT + number, body)
            for number, body in zip(range(first, first + count), bodies, strict=False)
        ]
