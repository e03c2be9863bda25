"""A private PostgreSQL cluster on a loopback port and a socket: started, crashed, restarted, with fresh databases."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from tests.support.processes import RunningProcess, free_port, wait_until

_SUPERUSER = "census_tests"
_CONNECT_TIMEOUT_SECONDS = 5


def find_postgresql_programs() -> Path | None:
    """The folder with the newest installed initdb and postgres, or None."""
    versions = [program.parent for program in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda folder: _version_of(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _version_of(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def _unprivileged_user() -> str | None:
    """The user to run as when we are root, which PostgreSQL refuses; None when we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresqlCluster:
    """One cluster in a folder of its own below the system's temporary folder; a context manager that removes it.

    `fsync=False` is for tests that are only about statements and their outcomes: nothing then is safe from a crash.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        programs = find_postgresql_programs()
        if programs is None:
            raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = programs
        self._fsync = fsync
        self._user = _unprivileged_user()
        self._password = secrets.token_urlsafe(12)
        self._process: RunningProcess | None = None
        self.port = free_port()
        # Not pytest's folder: the server's user could not enter it, and a socket's path may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="census-postgresql-"))
        self.log = self.folder / "postgresql.log"
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            for path in (self.folder, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        words: list[str | Path] = [self._programs / "initdb", "--pgdata", self.folder / "data"]
        words += ["--username", _SUPERUSER]
        # Any user of this machine may connect to a loopback port: a password keeps them out.
        words += ["--auth", "scram-sha-256", "--pwfile", password_file, "--encoding", "UTF8", "--locale", "C"]
        # The initial files need not outlast a loss of power; --no-sync saves seconds a cluster.
        finished = subprocess.run(
            [*words, "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        password_file.unlink()
        if finished.returncode != 0:
            raise RuntimeError(f"initdb failed: {finished.stderr or finished.stdout}")

    def dsn(self, database: str = "postgres") -> str:
        """The connection string of a database, for psycopg and the product's configuration."""
        return f"postgresql://{_SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.is_alive

    @property
    def process(self) -> RunningProcess:
        """The postmaster. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not started")
        return self._process

    def start(self) -> Self:
        """Start it and wait until it takes statements, after recovery if it was killed."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "64MB",
        }
        words: list[str | Path] = [self._programs / "postgres", "-D", self.folder / "data"]
        words += [f"--{name}={value}" for name, value in settings.items()]
        self._process = RunningProcess(words, log=self.log, folder=self.folder, user=self._user)
        self._process.wait_until(self._takes_statements, "PostgreSQL takes statements")
        return self

    def _takes_statements(self) -> bool:
        try:
            self.execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def kill9(self) -> None:
        """Crash it: SIGKILL to the server and each of its processes, none of which gets to write anything more."""
        pid = self.process.pid
        # Stopped, it starts no process between the listing and the kill.
        self.process.signal(signal.SIGSTOP)
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill9()
        # A child that is still going holds the shared memory, and the next start would refuse.
        wait_until(lambda: not any(_is_running(child) for child in children), "PostgreSQL's processes are gone")

    def stop(self) -> None:
        """End it without waiting for its clients; nothing happens when it does not run."""
        if self.is_running:
            self.process.signal(signal.SIGINT)
            self.process.wait()

    def restart(self) -> None:
        """Start it again, after ending it if it still runs."""
        self.stop()
        self.start()

    def create_database(self, *, durable: bool = True) -> str:
        """Make a fresh, empty database and return its connection string.

        `durable=False`: its commits do not wait for the disk, for tests that are not about crashes.
        """
        name = f"census_{secrets.token_hex(6)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if not durable:
            self.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
        return self.dsn(name)

    def drop_database(self, dsn: str) -> None:
        """Remove a database that create_database() returned, ending the connections to it."""
        name = dsn.rpartition("/")[2]
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        """Run one statement as the superuser, by itself."""
        with psycopg.connect(self.dsn(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_SECONDS) as connection:
            connection.execute(statement)

    def close(self) -> None:
        """End the server and remove its folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_running(pid: int) -> bool:
    """Whether the process still does anything: one that waits to be collected by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
