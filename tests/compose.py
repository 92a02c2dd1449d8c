"""The compose file on this machine, without containers: its commands and environment as local processes.

What a container would give (host names, ports, mounts, programs) is replaced through two tables, `Here.table` and
`PROGRAMS`; user, rights and images are left out. Everything else is taken from the file as it stands, so that a file
that has rotted fails.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from services._runtime.embedded import die_with_parent, find_server, free_port
from tests.architecture.tree import ROOT

SERVICES: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
PROGRAMS: Mapping[str, Sequence[str]] = {
    "python": [sys.executable],
    "wget": [sys.executable, "-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[-1])"],
}
"""Programs of the images -> what does the same here."""
_HEALTHY_S = 30.0
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(slots=True)
class Here:
    """A place on this machine that stands for the containers' network and disks."""

    directory: Path
    traces: str = ""
    """URL of something that takes OTLP over HTTP."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings that make a test short, beside those of the file."""
    bus: int = field(default_factory=free_port)
    monitor: int = field(default_factory=free_port)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    @property
    def url(self) -> str:
        """The bus, as the host sees it."""
        return f"nats://127.0.0.1:{self.bus}"

    @property
    def keys(self) -> Path:
        """The volume of keys: what `keys` makes, and every other container sees a part of."""
        return self.directory / "keys"

    @property
    def table(self) -> Sequence[tuple[str, str]]:
        """What a container sees -> what stands for it here. The one place where the two differ."""
        return (
            ("nats://nats:4222", self.url),
            ("0.0.0.0:4222", f"127.0.0.1:{self.bus}"),
            ("0.0.0.0:8222", f"127.0.0.1:{self.monitor}"),
            ("127.0.0.1:8222", f"127.0.0.1:{self.monitor}"),
            ("http://jaeger:4318", self.traces),
            ("/etc/nats", str(self.directory)),
            ("/keys", str(self.keys)),
            ('"/data"', f'"{self.directory / "data"}"'),
            ("/state", str(self.directory / "state")),
            ("/workspaces", str(self.directory / "workspaces")),
        )

    def translated(self, text: str) -> str:
        """A text of the file, as it reads here; variables take the defaults that the file gives them."""
        text = _VARIABLE.sub(r"\2", text)
        for container, here in self.table:
            text = text.replace(container, here)
        return text

    def start_bus(self) -> None:
        """The keys, then the server with the command and the configuration of the file, then its streams."""
        self.run("keys")
        config = (ROOT / "deploy" / "nats" / "nats.conf").read_text(encoding="utf-8")
        (self.directory / "nats.conf").write_text(self.translated(config), encoding="utf-8")
        arguments = [self.translated(argument) for argument in SERVICES["nats"]["command"]]
        self._start("nats", [find_server(), *arguments], {})
        self.until_healthy("nats")
        self.run("provision")

    def run(self, name: str) -> None:
        """A container that does its work and ends."""
        done = subprocess.run(
            self._command(SERVICES[name]["command"]),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self._environment(name)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self, name: str) -> None:
        """A service with its command and environment."""
        (self.directory / "state").mkdir(exist_ok=True)
        self._start(name, self._command(SERVICES[name]["command"]), {**self._environment(name), **self.settings})

    def told(self, role: str, *words: str) -> str:
        """What `mlmesh WORDS --json` says on the host to somebody with a role's key."""
        environment = {
            "PATH": os.environ["PATH"],
            "NATS_URL": self.url,
            "MLMESH_NKEY_FILE": str(self.keys / role / f"{role}.nk"),
            "MLMESH_HOME": str(self.directory / "host"),
        }
        command = [sys.executable, "-m", "services.gateway.cli", *words, "--json"]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout

    def until_healthy(self, name: str) -> None:
        """Returns when the file's health check says so."""
        self._until(name, self._command(SERVICES[name]["healthcheck"]["test"][1:]))

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> dict[str, int]:
        """Stops everything as compose does; exit codes by name, the bus last."""
        codes: dict[str, int] = {}
        for name in reversed(list(self._running)):
            self._running[name].terminate()
            codes[name] = self._running.pop(name).wait(20)
        return codes

    def _environment(self, name: str) -> dict[str, str]:
        given: Mapping[str, str] = SERVICES[name].get("environment", {})
        return {key: self.translated(value) for key, value in given.items()}

    def _command(self, words: Sequence[str]) -> list[str]:
        return [*PROGRAMS[words[0]], *map(self.translated, words[1:])]

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **environment},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def _until(self, name: str, check: Sequence[str]) -> None:
        """Runs a health check until it passes, as compose does."""
        environment = {"PATH": os.environ["PATH"], **self._environment(name)}
        deadline = time.monotonic() + _HEALTHY_S
        said = ""
        while time.monotonic() < deadline:
            if self._running[name].poll() is not None:
                raise AssertionError(f"{name} ended:\n{self.log(name)}")
            done = subprocess.run(check, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            said = done.stdout + done.stderr
        raise AssertionError(f"{name} is not healthy: {said}\n{self.log(name)}")
