"""What acceptance looks things up in: devices, forms, the center's secrets, and whom it trusts. Pure values.

A directory is made anew when `Storage.directory_version` has grown; it never changes while it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from central_broker.forms.registry import FormRegistry
from central_broker.storage.inquiry_records import DeviceRecord
from sync_protocol.identity import Role, Standing, Trust
from sync_protocol.keys import RecipientSecret, VerifyingKey


@dataclass(frozen=True, slots=True)
class KnownOrigin:
    """A certified device: how to verify what it signed, how it stands, and what it is for."""

    verifier: VerifyingKey
    standing: Standing
    role: Role


class Directory:
    """Devices, forms, recipient secrets (several while keys are rotated) and trust, as of one moment."""

    def __init__(
        self,
        *,
        trust: Trust,
        secrets: Iterable[RecipientSecret],
        devices: Iterable[DeviceRecord],
        forms: Iterable[tuple[str, str]],
        registry: FormRegistry | None = None,
    ) -> None:
        """`registry` has those of the forms of which more than the name is known."""
        self.trust = trust
        self.secrets = {secret.name: secret for secret in secrets}
        if not self.secrets:
            raise ValueError("the center has no recipient key; run 'central-broker init' first")
        self._devices = {record.device: record for record in devices}
        self._forms = frozenset(forms)
        self.registry = registry or FormRegistry()
        self._known: dict[bytes, KnownOrigin] = {}

    def origin(self, device: bytes) -> KnownOrigin | None:
        """Return a device, or None when the authority has not certified it to this center."""
        known = self._known.get(device)
        if known is None:
            record = self._devices.get(device)
            if record is None:
                return None
            # Keys are loaded when first needed: a consumer meets few of 21,000 devices between two reloads.
            known = self._known[device] = KnownOrigin(VerifyingKey(record.public_key), record.standing, record.role)
        return known

    def secret(self, name: bytes) -> RecipientSecret:
        """Return the secret of that name, or any when there is none: opening with it then says what is wrong."""
        return self.secrets.get(name) or next(iter(self.secrets.values()))

    def knows_form(self, form: str, version: str) -> bool:
        """Tell whether this version, or every version, of a form is known."""
        return (form, "") in self._forms or (form, version) in self._forms

    def trusting(self, trust: Trust) -> Directory:
        """Return this directory with more trust, sharing everything else."""
        other = Directory.__new__(Directory)
        other.trust = trust
        other.secrets = self.secrets
        other._devices = self._devices
        other._forms = self._forms
        other.registry = self.registry
        other._known = self._known
        return other
