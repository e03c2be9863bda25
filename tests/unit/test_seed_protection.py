"""Secrets at rest: what opens them, what does not, and what is said about it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from central_broker.seed_protection import (
    PassphraseSources,
    Protection,
    SecretDirectory,
    SecretError,
    check_new_passphrase,
    seal,
    unseal,
)

COST = 10  # the real cost takes 128 MB and half a second


def _file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def _directory(path: Path, passphrase: str = "six words of a passphrase") -> SecretDirectory:
    return SecretDirectory(path, PassphraseSources({}, prompt=lambda: passphrase), cost_log2=COST)


def test_a_secret_comes_back_and_its_file_is_the_owners_alone(tmp_path: Path) -> None:
    secrets = _directory(tmp_path / "secrets")
    umask = os.umask(0)  # the mode must not depend on it
    try:
        path = secrets.write("root", b"seed" * 8)
    finally:
        os.umask(umask)
    assert secrets.read("root") == b"seed" * 8
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"seed" not in path.read_bytes()


def test_another_passphrase_opens_nothing_and_is_told_so(tmp_path: Path) -> None:
    _directory(tmp_path / "secrets").write("root", b"seed" * 8)
    with pytest.raises(SecretError, match="the passphrase does not open root") as caught:
        _directory(tmp_path / "secrets", "another passphrase").read("root")
    assert "check the passphrase" in caught.value.remedy
    assert "another" not in str(caught.value) + caught.value.remedy


def test_one_secrets_file_does_not_pass_for_another(tmp_path: Path) -> None:
    secrets = _directory(tmp_path / "secrets")
    secrets.write("issuing", b"seed" * 8)
    shutil.copy(secrets.file("issuing"), secrets.file("root"))
    with pytest.raises(SecretError, match="does not open root"):
        secrets.read("root")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    secrets = _directory(tmp_path / "secrets")
    path = secrets.write("root", b"seed" * 8)
    path.chmod(mode)
    with pytest.raises(SecretError, match="may be read by others") as caught:
        secrets.read("root")
    assert caught.value.remedy.startswith(f"chmod 600 {path}")


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    secrets = _directory(tmp_path / "secrets")
    secrets.write("root", b"seed" * 8)
    secrets.path.chmod(0o750)
    with pytest.raises(SecretError, match="open to others") as caught:
        secrets.read("root")
    assert caught.value.remedy == f"chmod 700 {secrets.path}"


def test_missing_linked_and_huge_files_are_refused(tmp_path: Path) -> None:
    secrets = _directory(tmp_path / "secrets")
    secrets.write("root", b"seed" * 8)
    with pytest.raises(SecretError, match="there is no file"):
        secrets.read("issuing")
    secrets.file("linked").symlink_to(secrets.file("root"))
    with pytest.raises(SecretError, match="cannot be opened"):
        secrets.read("linked")
    _file(secrets.file("huge"), "x" * 100_000)
    with pytest.raises(SecretError, match="larger than any secret"):
        secrets.read("huge")


def test_an_existing_secret_is_never_overwritten(tmp_path: Path) -> None:
    secrets = _directory(tmp_path / "secrets")
    secrets.write("root", b"seed" * 8)
    with pytest.raises(SecretError, match="exists already"):
        secrets.write("root", b"other" * 6)
    assert secrets.read("root") == b"seed" * 8


def test_every_flipped_byte_and_every_shorter_file_is_refused() -> None:
    sealed = seal(b"seed" * 8, "root", b"passphrase", random=os.urandom, cost_log2=1)
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 0x40
        with pytest.raises(SecretError):
            unseal(bytes(damaged), "root", b"passphrase")
    for length in range(len(sealed)):
        with pytest.raises(SecretError):
            unseal(sealed[:length], "root", b"passphrase")
    assert unseal(sealed, "root", b"passphrase") == b"seed" * 8


def test_a_planted_file_cannot_ask_for_any_amount_of_memory() -> None:
    sealed = bytearray(seal(b"seed", "root", b"passphrase", random=os.urandom, cost_log2=1))
    sealed[5] = 40  # a terabyte
    with pytest.raises(SecretError, match="does not know"):
        unseal(bytes(sealed), "root", b"passphrase")


def test_passphrases_are_looked_for_in_the_announced_order(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    _file(credentials / "passphrase", "from systemd\n", 0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert PassphraseSources(environment, prompt=lambda: "typed").passphrase() == b"from systemd"
    environment["CENSUS_PASSPHRASE_FILE"] = str(_file(tmp_path / "named", "from the variable\r\nsecond line"))
    assert PassphraseSources(environment).passphrase() == b"from the variable"
    option = _file(tmp_path / "option", "from the option")
    assert PassphraseSources(environment, file=option).passphrase() == b"from the option"
    assert PassphraseSources({}, prompt=lambda: "typed").passphrase() == b"typed"
    with pytest.raises(SecretError, match="there is no passphrase"):
        PassphraseSources({}).passphrase()


def test_a_passphrase_file_that_others_may_read_or_that_is_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="may be read by others"):
        PassphraseSources({}, file=_file(tmp_path / "open", "words", 0o644)).passphrase()
    with pytest.raises(SecretError, match="empty line"):
        PassphraseSources({}, file=_file(tmp_path / "empty", "\nwords")).passphrase()


def test_a_short_new_passphrase_is_refused() -> None:
    with pytest.raises(SecretError, match="has 6 characters"):
        check_new_passphrase(b"secret")
    check_new_passphrase(b"secret enough now")


def _systemd_creds_works() -> bool:
    try:
        command = ["systemd-creds", "encrypt", "--name=probe", "-", "-"]
        return subprocess.run(command, input=b"x", capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _systemd_creds_works(), reason="systemd-creds cannot encrypt here")
def test_systemd_creds_keeps_a_secret_under_its_name(tmp_path: Path) -> None:
    secrets = SecretDirectory(tmp_path / "secrets", PassphraseSources({}), protection=Protection.SYSTEMD_CREDS)
    path = secrets.write("receipt-0123", bytes(range(32)))
    assert secrets.read("receipt-0123") == bytes(range(32))
    assert path.stat().st_mode & 0o777 == 0o600
    shutil.copy(path, secrets.file("root"))
    with pytest.raises(SecretError, match="could not decrypt root"):
        secrets.read("root")


def test_a_service_reads_what_systemd_decrypted_for_it(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"already decrypted")
    sources = PassphraseSources({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert SecretDirectory(tmp_path / "nowhere", sources).read("root") == b"already decrypted"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_key_that_root_makes_belongs_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    """Each service has a user of its own, who could not open a key of root's."""
    directory = SecretDirectory(tmp_path / "secrets", PassphraseSources({}, known=b"long passphrase"), cost_log2=4)
    directory.path.mkdir(mode=0o700)
    os.chown(directory.path, 12345, 23456)
    status = directory.write("receipt-1", b"seed").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)
    assert stat.S_IMODE(status.st_mode) == 0o600
