"""Devices at work without a daemon: the product's own engine, stepper and SQLite queue, driven step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final
from unittest import mock

from edge_agent.engine.effects import Accepted, Effect, Send
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import LinkUp, Settled, Started, Submission, Submitted, TimePassed
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.links import center_mailbox
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from sync_protocol.content import Metadata, Questionnaire
from sync_protocol.domains import NAME_BYTES
from sync_protocol.keys import SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES
from sync_protocol.limits import BUNDLE_BYTES_MAX, CONTENT_BUCKET_BYTES

_TIME: Final = 1_633_000_000_000_000
_LINK: Final = "bench"
_IN_FLIGHT_MAX: Final = 20
_ENC_BYTES: Final = 1120
_TAG_BYTES: Final = 16


@dataclass(frozen=True)
class StubSigner:
    """Signatures of the right size, for nothing."""

    public_bytes: bytes = bytes(SIGNING_PUBLIC_KEY_BYTES)

    def sign(self, message: bytes) -> bytes:
        """Return zeros."""
        return bytes(SIGNATURE_BYTES)


@dataclass(frozen=True)
class StubRecipient:
    """Ciphertext of the right size, for nothing."""

    name: bytes = bytes(NAME_BYTES)

    def encrypt(self, plaintext: bytes, info: bytes) -> bytes:
        """Return the plaintext with zeros around it."""
        return b"".join((bytes(_ENC_BYTES), plaintext, bytes(_TAG_BYTES)))


class SteppedDevice:
    """One device's engine on its real queue; every submit is durable when it returns."""

    def __init__(self, folder: Path, identity: DeviceIdentity, statements: tuple[bytes, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._store = QueueStore(folder)
        self._mirror = FileHeadMirror(folder)
        engine = Engine(identity, EngineSettings(), lambda: 0.5)
        self._stepper = Stepper(engine, self._store, self._mirror)
        self._now = count(_TIME, 1_000)
        self._step(Started(self._mirror.position(), statements))

    def submit(self, questionnaires: Sequence[Questionnaire]) -> None:
        """Accept them in one commit."""
        submissions = tuple(
            Submission(number, sha256(questionnaire.instance_id.encode()).digest(), questionnaire)
            for number, questionnaire in enumerate(questionnaires)
        )
        effects = self._step(Submitted(submissions))
        accepted = sum(isinstance(effect, Accepted) for effect in effects)
        if accepted != len(submissions):
            raise RuntimeError(f"the engine accepted {accepted} of {len(submissions)} questionnaires: {effects}")

    def connect(self) -> Iterator[bytes]:
        """Yield bundles as the broker would get them over a fast link, each answered at once, until nothing is due."""
        link = center_mailbox(
            _LINK, bundles_in_flight_max=_IN_FLIGHT_MAX, bundle_bytes_max=BUNDLE_BYTES_MAX, remembered=True
        )
        yield from self._carry(self._step(LinkUp(link)))

    def proceed(self) -> Iterator[bytes]:
        """The same for what was submitted since."""
        yield from self._carry(self._step(TimePassed()))

    def _carry(self, effects: list[Effect]) -> Iterator[bytes]:
        waiting = [effect for effect in effects if isinstance(effect, Send)]
        while waiting:
            sent = waiting.pop(0)
            yield sent.data
            answered = self._step(Settled(_LINK, sent.token, taken=True))
            waiting += [effect for effect in answered if isinstance(effect, Send)]

    def _step(self, event: Started | Submitted | LinkUp | Settled | TimePassed) -> list[Effect]:
        return self._stepper.step(event, next(self._now))

    def close(self) -> None:
        """Close the queue."""
        self._mirror.close()
        self._store.close()

    def __enter__(self) -> SteppedDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stub_content(_metadata: Metadata, _body: bytes) -> bytes:
    return bytes(CONTENT_BUCKET_BYTES)


@contextmanager
def stubbed_device(folder: Path) -> Iterator[SteppedDevice]:
    """A device that seals with stubs (a household's content fills one bucket): all but the sealing is the product's."""
    identity = DeviceIdentity(bytes(NAME_BYTES), StubSigner(), bytes(SIGNING_PUBLIC_KEY_BYTES))
    # The recipient comes out of a signed statement, which a stub has none of: only here it is put in its place.
    with (
        mock.patch("edge_agent.engine.chain.encode_content", _stub_content),
        mock.patch("edge_agent.engine.identity.Beliefs.recipient", StubRecipient()),
        SteppedDevice(folder, identity, ()) as device,
    ):
        yield device
