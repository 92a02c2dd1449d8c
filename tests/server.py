"""A real nats-server for tests, as a blocking object: started, killed, started again on the same store."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from services._runtime.embedded import die_with_parent, find_server, free_port


class NatsServer:
    """One nats-server on loopback with JetStream in `directory`."""

    def __init__(self, directory: Path, *, config: str = "", port: int = 0, max_store: int = 0) -> None:
        """`config`: more lines of nats.conf. `max_store`: bytes that its streams may use; 0: no limit."""
        self.directory = directory
        self.port = port or free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = config
        self._limit = f", max_file_store: {max_store}" if max_store else ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self, *, wait: bool = True) -> None:
        """Starts it on the same port and store; returns when it greets, unless it is not waited for."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "nats.conf"
        file.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.directory / "js"}"{self._limit} }}\n'
            f"feature_flags {{ js_ack_fc_v2: false }}\n{self._config}"
        )
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server(), "-c", str(file)], stdout=log, stderr=log, preexec_fn=die_with_parent(signal.SIGKILL)
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns when it greets. Raises RuntimeError with its log when it ends instead."""
        while not self._greets():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.005)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it cleanly."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freezes it: connections stay, nothing is answered. Returns when it stands still."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Lets it run on."""
        self._signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(10)

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(which)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.2) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
