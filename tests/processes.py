"""The real services as separate processes, for tests that kill them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from contracts import subjects
from services._runtime.embedded import die_with_parent

MODULES = {name: f"services.{name.replace('-', '_')}" for name in subjects.SERVICES}


class Services:
    """Services on one bus. Each may be killed, stopped and started again."""

    def __init__(self, nats_url: str, directory: Path, **environment: str) -> None:
        self._directory = directory
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("MLMESH_", "OTEL_", "ANTHROPIC_"))
            },
            "NATS_URL": nats_url,
            "MLMESH_HOME": str(directory / "home"),
            "MLMESH_WORKSPACE_ROOTS": str(directory),
            "MLMESH_ACK_WAIT_S": "3",  # nobody alive is silent for so long, on a busy machine neither
            "MLMESH_HEARTBEAT_S": "0.5",
            "MLMESH_RETRY_DELAY_S": "0.05",
            "MLMESH_STOP_GRACE_S": "0.5",
            "MLMESH_PUBLISH_TIMEOUT_S": "1",
            "MLMESH_LATENCY_S": "0.5",
            "MLMESH_PROOFS": "false",
            "MLMESH_TRAIN_BUDGET_S": "2",
            "PYTHONWARNINGS": "default",
            **environment,
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {name: ("-m", module) for name, module in MODULES.items()}
        self._urls: dict[str, str] = {}

    def add(self, name: str, *command: str, url: str = "") -> None:
        """Another process under this name, or another way to run a service. `url`: its own way to the bus."""
        self._commands[name] = command or self._commands[name]
        if url:
            self._urls[name] = url

    def start(self, *names: str, arrange: Callable[[], None] | None = None) -> None:
        """Starts these services, all of them by default. `arrange` runs in each child first, to limit it."""
        dies = die_with_parent(signal.SIGKILL)

        def prepare() -> None:
            dies()
            if arrange is not None:
                arrange()

        for name in names or subjects.SERVICES:
            with self.log(name).open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, *self._commands[name]],
                    env={**self._environment, "NATS_URL": self._urls.get(name, self._environment["NATS_URL"])},
                    stdout=log,
                    stderr=log,
                    preexec_fn=prepare,
                )

    def kill(self, name: str) -> None:
        """Kill -9."""
        self._running[name].kill()
        self._running.pop(name).wait(10)

    def terminate(self, name: str) -> int:
        """SIGTERM; the exit code. Raises TimeoutExpired when it takes 20 s: then it is killed."""
        process = self._running.pop(name)
        process.terminate()
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise

    def pid(self, name: str) -> int:
        """Its process id; 0 when it does not run."""
        process = self._running.get(name)
        return process.pid if process is not None and process.poll() is None else 0

    def freeze(self, name: str) -> None:
        """SIGSTOP: alive, connected, does nothing."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._running[name].send_signal(signal.SIGCONT)

    def log(self, name: str) -> Path:
        """What the service wrote."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f"{name}.log"

    def stop(self) -> None:
        """Ends what still runs."""
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
