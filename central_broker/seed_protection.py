"""Secrets at rest: every key in a 0600 file of its own, sealed with a passphrase or by systemd-creds.

A passphrase file is: magic `CNSK`, version 1, log2 of scrypt's n, r, p (one byte each), salt (16), nonce (12),
AES-256-GCM ciphertext. The key is scrypt(passphrase, salt); everything before the ciphertext and the secret's own name
are authenticated, so that one file cannot stand in for another. A systemd-creds file is what
`systemd-creds encrypt --name=NAME` writes. A reader tells the two apart by the magic.

Not responsible for which secret is for what: see `central_broker.center_files`.
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from operations.durable_files import write_durably

MAGIC: Final = b"CNSK"
VERSION: Final = 1
SCRYPT_COST_LOG2: Final = 17
SCRYPT_COST_LOG2_MAX: Final = 20
"""One gigabyte: what a planted file may make a reader allocate at the most."""
_BLOCK_SIZE: Final = 8
_PARALLELISM: Final = 1
_HEADER: Final = struct.Struct(">4sBBBB16s12s")
SECRET_FILE_BYTES_MAX: Final = 64 * 1024
PASSPHRASE_BYTES_MIN: Final = 12
"""Of a new passphrase. Six random words or a file of random characters are longer anyway."""
SEALED_SUFFIX: Final = ".sealed"
PASSPHRASE_CREDENTIAL: Final = "passphrase"  # noqa: S105  # the name of a credential
PASSPHRASE_FILE_VARIABLE: Final = "CENSUS_PASSPHRASE_FILE"  # noqa: S105  # the name of a variable
_CREDENTIALS_DIRECTORY_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

Random = Callable[[int], bytes]
"""Returns that many random bytes, as os.urandom does."""


class SecretError(Exception):
    """A secret cannot be read or written; `remedy` says what to do. Never holds anything of the secret."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class Protection(StrEnum):
    """How secrets are kept."""

    PASSPHRASE = "passphrase"  # noqa: S105  # the name of a way, not a passphrase
    SYSTEMD_CREDS = "systemd-creds"


@dataclass(frozen=True)
class PassphraseSources:
    """Where a passphrase may come from, in this order: `known`, `file`, $CENSUS_PASSPHRASE_FILE,
    $CREDENTIALS_DIRECTORY/passphrase, `prompt`."""

    environment: Mapping[str, str]
    file: Path | None = None
    prompt: Callable[[], str] | None = None
    known: bytes | None = None

    def passphrase(self) -> bytes:
        """The passphrase, without the line end of its file. Raises SecretError."""
        credentials = self.environment.get(_CREDENTIALS_DIRECTORY_VARIABLE)
        named = self.environment.get(PASSPHRASE_FILE_VARIABLE)
        if self.known is not None:
            return self.known
        if self.file is not None:
            return _read_passphrase(self.file)
        if named:
            return _read_passphrase(Path(named))
        # systemd owns that directory and its files' modes (it may mark them 0440 with an access list).
        if credentials and (Path(credentials) / PASSPHRASE_CREDENTIAL).exists():
            return _first_line((Path(credentials) / PASSPHRASE_CREDENTIAL).read_bytes(), Path(credentials))
        if self.prompt is not None:
            return self.prompt().encode()
        raise SecretError(
            "there is no passphrase",
            f"name its file with --passphrase-file, with ${PASSPHRASE_FILE_VARIABLE} or as secrets.passphrase_file in "
            "the configuration; a service gets it with LoadCredential=passphrase:FILE",
        )


def _read_passphrase(path: Path) -> bytes:
    return _first_line(read_private(path), path)


def _first_line(data: bytes, path: Path) -> bytes:
    passphrase = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not passphrase:
        raise SecretError(f"the passphrase file {path} begins with an empty line", "write the passphrase on line 1")
    return passphrase


def read_private(path: Path) -> bytes:
    """Read a file that only its owner may open; raises SecretError when it is missing or open to others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise SecretError(f"there is no file {path}", "check the path, or restore the file from its backup") from None
    except OSError as error:
        raise SecretError(
            f"{path} cannot be opened: {error.strerror}", "run as the user who owns it; a link is not followed"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretError(f"{path} is not a file", "name a plain file")
        if mode & _OTHERS:
            raise SecretError(
                f"{path} may be read by others than its owner (mode {stat.S_IMODE(mode):04o})",
                f"chmod 600 {path}, and take what it protects as known if others use this machine",
            )
        data = file.read(SECRET_FILE_BYTES_MAX + 1)
    if len(data) > SECRET_FILE_BYTES_MAX:
        raise SecretError(f"{path} is larger than any secret", "check that the right file is named")
    return data


def seal(secret: bytes, name: str, passphrase: bytes, *, random: Random, cost_log2: int = SCRYPT_COST_LOG2) -> bytes:
    """Return the file content that keeps `secret` under its name and this passphrase."""
    header = _HEADER.pack(MAGIC, VERSION, cost_log2, _BLOCK_SIZE, _PARALLELISM, random(16), random(12))
    salt, nonce = _HEADER.unpack(header)[5:]
    return header + AESGCM(_derive(passphrase, salt, cost_log2)).encrypt(nonce, secret, header + name.encode())


def unseal(data: bytes, name: str, passphrase: bytes) -> bytes:
    """Return the secret; raises SecretError for another passphrase, another name or a damaged file."""
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise SecretError(f"the file of {name} is not a sealed secret", "restore it from its backup")
    _, version, cost_log2, block_size, parallelism, salt, nonce = _HEADER.unpack_from(data)
    known = version == VERSION and (block_size, parallelism) == (_BLOCK_SIZE, _PARALLELISM)
    if not known or not 1 <= cost_log2 <= SCRYPT_COST_LOG2_MAX:
        raise SecretError(
            f"the file of {name} is of a kind that this version does not know (version {version}, cost 2^{cost_log2})",
            "use the version of central-broker that wrote it, or restore the file from its backup",
        )
    try:
        key = AESGCM(_derive(passphrase, salt, cost_log2))
        return key.decrypt(nonce, data[_HEADER.size :], data[: _HEADER.size] + name.encode())
    except InvalidTag:
        raise SecretError(
            f"the passphrase does not open {name}",
            "check the passphrase (its file's first line, without spaces around it); if it is surely right, the file "
            "was damaged or exchanged: restore it from its backup",
        ) from None


def _derive(passphrase: bytes, salt: bytes, cost_log2: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << cost_log2, r=_BLOCK_SIZE, p=_PARALLELISM).derive(passphrase)


class SecretDirectory:
    """The secrets of one purpose: a 0700 directory with one sealed 0600 file for each.

    The passphrase is asked for when the first secret needs it, and once.
    """

    def __init__(
        self,
        path: Path,
        sources: PassphraseSources,
        *,
        protection: Protection = Protection.PASSPHRASE,
        random: Random = os.urandom,
        cost_log2: int = SCRYPT_COST_LOG2,
    ) -> None:
        self.path = path
        self._sources = sources
        self._protection = protection
        self._random = random
        self._cost_log2 = cost_log2
        self._passphrase: bytes | None = None

    def file(self, name: str) -> Path:
        """Where the secret of this name is kept."""
        return self.path / f"{name}{SEALED_SUFFIX}"

    def write(self, name: str, secret: bytes) -> Path:
        """Keep a new secret; raises SecretError when there is one of this name already."""
        make_private_directory(self.path)
        if self.file(name).exists():
            raise SecretError(f"{self.file(name)} exists already", "move it away if it shall be replaced")
        if self._protection is Protection.PASSPHRASE:
            sealed = seal(secret, name, self._known_passphrase(), random=self._random, cost_log2=self._cost_log2)
        else:
            sealed = _systemd_creds("encrypt", name, secret)
        # The folder may belong to the user of the one service that needs these keys.
        write_durably(self.file(name), sealed, mode=0o600, for_folder_owner=True)
        return self.file(name)

    def read(self, name: str, *, path: Path | None = None) -> bytes:
        """Return a secret; `path` names its file when it is kept elsewhere, as the root may be. Raises SecretError."""
        credentials = self._sources.environment.get(_CREDENTIALS_DIRECTORY_VARIABLE)
        if path is None and credentials and (Path(credentials) / name).exists():
            return (Path(credentials) / name).read_bytes()
        if path is None:
            check_private_directory(self.path)
        sealed = read_private(self.file(name) if path is None else path)
        if sealed.startswith(MAGIC):
            return unseal(sealed, name, self._known_passphrase())
        return _systemd_creds("decrypt", name, sealed)

    def _known_passphrase(self) -> bytes:
        if self._passphrase is None:
            self._passphrase = self._sources.passphrase()
        return self._passphrase


def check_new_passphrase(passphrase: bytes) -> None:
    """Raise SecretError when the passphrase is too short to protect anything."""
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise SecretError(
            f"the passphrase has {len(passphrase)} characters",
            f"take at least {PASSPHRASE_BYTES_MIN}: six random words, or a file made by "
            "`head -c 24 /dev/urandom | base64`",
        )


def make_private_directory(path: Path) -> None:
    """Make the directory 0700, or check that it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private_directory(path)


def check_private_directory(path: Path) -> None:
    """Raise SecretError unless the directory is there and closed to others."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SecretError(
            f"the directory of secrets {path} cannot be looked into: {error.strerror}",
            "run as the user who owns it, or run `central-broker init` first",
        ) from None
    if mode & _OTHERS:
        raise SecretError(
            f"the directory of secrets {path} is open to others (mode {stat.S_IMODE(mode):04o})", f"chmod 700 {path}"
        )


def _systemd_creds(verb: str, name: str, data: bytes) -> bytes:
    try:
        done = subprocess.run(
            ["systemd-creds", verb, f"--name={name}", "-", "-"], input=data, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise SecretError(
            "systemd-creds is not installed here",
            'install systemd 250 or later, or set secrets.protection = "passphrase"',
        ) from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SecretError(
            f"systemd-creds could not {verb} {name}: {said[-1] if said else f'status {done.returncode}'}",
            "run as root on the machine that encrypted it; a service gets the secret with "
            f"LoadCredentialEncrypted={name}:FILE",
        )
    return done.stdout
