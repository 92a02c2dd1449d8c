"""A PostgreSQL of the tests' own: one temporary cluster a test process, a fresh database for whoever asks.

Debian's binaries, data in a directory of its own on a free port of loopback, nothing synced to disk. The server
refuses root, so that where the tests run as root it runs as user `postgres`. It ends with the test process.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.tools import tool

_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database; the password is not needed, and must not be seen anywhere."""
        return f"postgresql://postgres:secret-of-the-test@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and return when it answers."""
        options = ["-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-F"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                _as_postgres([tool("postgres"), "-D", str(self.folder / "data"), *options], dying_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        self.processes.append(process)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self, how: str = "fast") -> None:
        """Stop the server: `fast` cuts its connections, `immediate` is a crash."""
        command = [tool("pg_ctl"), "-D", str(self.folder / "data"), "-m", how, "-w", "stop"]
        subprocess.run(_as_postgres(command), check=False, capture_output=True, cwd="/")
        while self.processes:
            self.processes.pop().wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


def fresh_database() -> str:
    """Return the URL of an empty database in this process's cluster."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(cluster().url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return cluster().url(name)


@functools.cache
def cluster() -> Cluster:
    """Return this process's cluster; it is made when it is first asked for."""
    made = new_cluster()
    atexit.register(discard, made)
    return made


def new_cluster() -> Cluster:
    """Return a running cluster that the caller may stop, start and must `discard`."""
    tool("postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    subprocess.run(
        _as_postgres([tool("initdb"), "-D", str(folder / "data"), *options]),
        check=True,
        capture_output=True,
        cwd="/",
    )
    made = Cluster(folder, _free_port())
    made.start()
    return made


def discard(made: Cluster) -> None:
    """Stop a cluster and remove its files."""
    made.stop("immediate")
    shutil.rmtree(made.folder, ignore_errors=True)


def _as_postgres(command: Sequence[str], *, dying_with_us: bool = False) -> list[str]:
    """Return the command as the user that the server accepts, ended with this process if asked for."""
    dying = ["--pdeathsig", "QUIT"] if dying_with_us else []
    user = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, *dying, *command] if user or dying else list(command)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
