"""A whole center in a folder, with a passphrase that costs nothing."""

from __future__ import annotations

from pathlib import Path

from central_broker.center_files import CenterFiles, create_center
from central_broker.configuration import parse_configuration
from central_broker.enrolment import Issuers
from central_broker.seed_protection import PassphraseSources

PASSPHRASE = "six words of a passphrase"


def small_center(folder: Path, *, now: int = 1) -> CenterFiles:
    """Files of a new center in this folder."""
    folder.mkdir(exist_ok=True)
    sources = PassphraseSources({}, prompt=lambda: PASSPHRASE)
    files = CenterFiles(parse_configuration("", folder), sources, scrypt_cost_log2=1)
    create_center(files, now)
    return files


def issuers(files: CenterFiles) -> Issuers:
    return Issuers(files.issuing_key(), files.tls_issuing())
