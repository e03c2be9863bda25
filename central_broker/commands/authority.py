"""Commands `init`, `keys` and `broker`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets as randomness
from pathlib import Path

import click

from central_broker.authority import KeyKind, rotate_receipt_key, rotate_recipient_key
from central_broker.broker_configuration import BrokerFiles, certificate_fits, next_steps, write_broker_files
from central_broker.center_files import CenterFiles, create_center
from central_broker.commands.context import CenterContext, json_option, now, pass_center
from central_broker.configuration import Value, parse_configuration, sample_configuration
from central_broker.enrolment import revocation_list
from central_broker.seed_protection import PassphraseSources, Protection, check_new_passphrase
from central_broker.tls_authority import TlsIssuer
from operations.console import fail, print_json, print_line, print_table
from operations.durable_files import write_durably
from sync_protocol.keys import SEED_BYTES


@click.command(
    epilog="""\b
Examples:
  central-broker init --address 10.8.0.1
  central-broker --passphrase-file /root/passphrase init --address 10.8.0.1 --address broker.census.example
  central-broker --center /srv/trial init --database postgresql:///census
"""
)
@click.option("--address", "addresses", multiple=True, help="IP address or DNS name by which tablets reach the broker.")
@click.option("--port", type=click.IntRange(1, 65535), help="The broker's port for tablets.  [8883]")
@click.option("--center-port", type=click.IntRange(1, 65535), help="The broker's port for consumers.  [8884]")
@click.option("--database", help="sqlite:///PATH or postgresql://…  [a SQLite file in the state folder]")
@click.option("--broker-user", help="The system user of mosquitto.  [mosquitto]")
@click.option("--protection", type=click.Choice([one.value for one in Protection]), help="How keys are sealed.")
@json_option
@pass_center
def init(
    center: CenterContext,
    *,
    addresses: tuple[str, ...],
    port: int | None,
    center_port: int | None,
    database: str | None,
    broker_user: str | None,
    protection: str | None,
    as_json: bool,
) -> None:
    """Make a new center: center.toml, the authority, its sealed keys, TLS certificates.

    An existing center.toml is kept and used. An existing authority is never touched.
    """
    options: dict[str, Value | None] = {
        "broker.names": addresses or None,
        "broker.listen_address": _listen_address(addresses),
        "broker.port": port,
        "broker.center_port": center_port,
        "database.url": database,
        "broker.user": broker_user,
        "secrets.protection": protection,
    }
    chosen = {key: value for key, value in options.items() if value is not None}
    text = None
    if not center.file.exists():
        text = _new_configuration(center, chosen)
        configuration = parse_configuration(text, center.center)
    elif chosen:
        fail(f"{center.file} exists already", "leave the options out to use it as it is, or edit it")
    else:
        configuration = center.configuration()
    sources = center.sources(configuration.secrets.passphrase_file, confirm=True)
    if Protection(configuration.secrets.protection) is Protection.PASSPHRASE:
        passphrase = sources.passphrase()
        check_new_passphrase(passphrase)
        # It was asked for once; every folder of secrets is sealed with the same.
        sources = PassphraseSources({}, known=passphrase)
    if text is not None:  # only now: a passphrase that is refused leaves nothing behind
        center.center.mkdir(parents=True, exist_ok=True)
        write_durably(center.file, text.encode())
    files = CenterFiles(configuration, sources)
    record = create_center(files, now())
    with center.storage():
        pass  # makes the tables, so that a wrong database address shows now
    _say_made(center, files, record.root_key, as_json)


def _listen_address(addresses: tuple[str, ...]) -> str | None:
    """The first IP address; with names only, every address of this machine."""
    for address in addresses:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(address))
    return "::" if addresses else None


def _new_configuration(center: CenterContext, chosen: dict[str, Value]) -> str:
    drawn: dict[str, Value] = {"consumer.group": f"center-{randomness.token_hex(8)}"}
    if center.passphrase_file is not None:
        drawn["secrets.passphrase_file"] = str(center.passphrase_file.absolute())
    return sample_configuration(center.center, chosen | drawn)


def _say_made(center: CenterContext, files: CenterFiles, root_key: str, as_json: bool) -> None:
    root = files.authority_secrets.file("root")
    if as_json:
        print_json({"center": center.center, "configuration": center.file, "root_key": root_key, "root": root})
        return
    print_line(f"The center is made: {center.file}")
    print_line(f"Root key of the authority (write it down; every tablet stands on it): {root_key}")
    print_line("")
    print_line("Now, in this order:")
    print_line(f"  1. Copy {files.configuration.directories.secrets} and {files.state} to two safe places, and the")
    print_line("     passphrase to a third. Without the recipient key, nothing that tablets seal can be opened.")
    print_line(f"  2. Move {root} offline. It is needed again only for `keys rotate receipt` and `media delegate`.")
    print_line("  3. central-broker broker, and start mosquitto as it says.")
    print_line("  4. central-broker forms add FORM for every form of the census.")


@click.group()
def keys() -> None:
    """The authority's keys: what there is, and exchanging them."""


@keys.command(name="list")
@json_option
@pass_center
def keys_list(center: CenterContext, as_json: bool) -> None:
    """Every key, and which of them is in use."""
    files = center.files()
    record = files.authority()
    rows = [(key.kind.value, key.name, key.serial, key.state.value) for key in record.keys]
    if as_json:
        documents = [dict(zip(("kind", "name", "serial", "state"), row, strict=True)) for row in rows]
        print_json({"root_key": record.root_key, "keys": documents})
        return
    print_line(f"root key: {record.root_key}")
    print_table(("key", "name", "serial", "state"), rows)


@keys.group(name="rotate")
def keys_rotate() -> None:
    """Exchange a key for a new one.

    Tablets learn of it by a statement that the receipt publisher floods; nobody has to touch them.
    """


@keys_rotate.command(name="receipt")
@click.option("--root-file", type=click.Path(path_type=Path, dir_okay=False), help="The sealed root, kept offline.")
@click.option("--withdraw-old", is_flag=True, help="The old key was stolen: believe none of its receipts any more.")
@json_option
@pass_center
def rotate_receipt(center: CenterContext, root_file: Path | None, withdraw_old: bool, as_json: bool) -> None:
    """A new key for signing receipts. Needs the root. Restart the receipt publisher afterwards."""
    files = center.files()
    with files.only_one():
        root = files.root_key(root_file)
        seed = os.urandom(SEED_BYTES)
        record, secret = rotate_receipt_key(files.authority(), root, seed, now(), withdraw_old=withdraw_old)
        path = files.keep(secret)  # before the record names it: a crash between leaves an unused file, no missing key
        files.save_authority(record)
    _say_rotated(KeyKind.RECEIPT, record.active(KeyKind.RECEIPT).name, path, as_json)


@keys_rotate.command(name="recipient")
@json_option
@pass_center
def rotate_recipient(center: CenterContext, as_json: bool) -> None:
    """A new key that tablets seal to. Restart the consumers *before* the publisher, so that they can open what comes.

    The old key stays: tablets seal to it until the news reaches them. Never delete its file.
    """
    files = center.files()
    with files.only_one():
        issuer = files.issuing_key()
        record, secret = rotate_recipient_key(files.authority(), issuer, os.urandom(SEED_BYTES), now())
        path = files.keep(secret)
        files.save_authority(record)
    _say_rotated(KeyKind.RECIPIENT, record.active(KeyKind.RECIPIENT).name, path, as_json)


def _say_rotated(kind: KeyKind, name: str, path: Path, as_json: bool) -> None:
    if as_json:
        print_json({"kind": kind, "name": name, "file": path})
        return
    print_line(f"The new {kind.value} key is {name}.")
    print_line(f"Copy {path} to the safe places now.")
    service = "the receipt publisher" if kind is KeyKind.RECEIPT else "the consumers, then the receipt publisher"
    print_line(f"Then restart {service}.")


@click.command(
    epilog="""\b
Examples:
  central-broker broker
  central-broker broker --new-certificate      after broker.names changed, or its key was seen by others
"""
)
@click.option("--new-certificate", is_flag=True, help="Make a new server key and certificate in any case.")
@json_option
@pass_center
def broker(center: CenterContext, new_certificate: bool, as_json: bool) -> None:
    """Write mosquitto's configuration, access list, certificates and revocations, and say how to start it."""
    files = center.files()
    with files.only_one(), center.storage() as storage:
        tls = files.tls_issuing()
        written = write_for_broker(files, tls, revocation_list(files, storage, tls), new_certificate=new_certificate)
    if as_json:
        print_json(written)
        return
    print_line(f"Written: {written.configuration}")
    for line in next_steps(written):
        print_line(f"  {line}")


def write_for_broker(files: CenterFiles, tls: TlsIssuer, revocations: bytes, *, new_certificate: bool) -> BrokerFiles:
    """Write the broker's folder; the server certificate only when it is missing, does not fit, or is to be new."""
    directory = files.configuration.directories.broker
    issuing = files.certificate("issuing").read_bytes()
    fits = certificate_fits(directory, files.configuration.broker, issuing)
    return write_broker_files(
        directory,
        files.configuration.broker,
        issuer=tls if new_certificate or not fits else None,
        root=files.certificate("root").read_bytes(),
        center_authority=files.certificate("center").read_bytes(),
        revocation_list=revocations,
    )
