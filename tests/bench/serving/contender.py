"""The servers that are measured: how each is started, and how the same row is asked of it.

Peers are installed below `.bench/`; what it takes is in `peers/<name>.txt`, what they run in `peers/with_<name>.py`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import mlsystem
from tests.bench.serving.system import Served
from tests.environments import Environment, environment

PEERS: Final = Path(__file__).parent / "peers"
_START_S: Final = 120.0
_PORTS: Final = 3

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """One server: the command that serves on a port, and the request for a row."""

    name: str
    about: str
    path: str
    body: Callable[[Row], object]
    command: Callable[[Served, int, Path], Sequence[str]]
    """Of the system, the port, and a folder to write into."""
    environment: Environment | None = None
    """A peer's; None: it runs in ours."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    contender: Contender
    process: subprocess.Popen[bytes]
    host: str
    port: int
    start_s: float
    bodies: list[bytes]

    @property
    def url(self) -> str:
        """Where a prediction is asked for."""
        return f"http://{self.host}:{self.port}{self.contender.path}"

    def pids(self) -> list[int]:
        """Every process of the server."""
        return _tree(self.process.pid)

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        return sum(map(_cpu_s, self.pids()))

    def resident_mb(self) -> float:
        """Memory that it holds."""
        return sum(map(_resident_mb, self.pids()))


def ours(name: str, about: str, *words: str) -> Contender:
    """The delivered server, or with `words` a reduced one (`reduced`)."""

    def command(system: Served, port: int, _folder: Path) -> Sequence[str]:
        if words:
            return [sys.executable, "-m", "tests.bench.serving.reduced", str(system.root), str(port), *words]
        return [sys.executable, "-m", "mlsystem", "serve", "--dir", str(system.root), "--port", str(port)]

    return Contender(name, about, "/predict", _rows, command)


def floor() -> Contender:
    """Starlette, msgspec and onnxruntime alone."""

    def command(system: Served, port: int, _folder: Path) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.serving.peers.with_floor", str(port), str(system.package)]

    return Contender("floor", "Starlette, msgspec, onnxruntime alone", "/predict", _rows, command)


def peer(name: str) -> Contender:
    """A peer by its name; NotToBeHadError if it cannot be installed."""
    made = environment(PEERS / f"{name}.txt")
    path, body, command = _PEERS[name]
    about = f"{name} {made.versions.get(name, '')}"
    return Contender(name, about, path, body, partial(command, made), made)


@contextlib.contextmanager
def running(contender: Contender, system: Served, folder: Path) -> Generator[Running]:
    """The server for the time of the context; RuntimeError with its last words if it does not answer."""
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = contender.command(system, port, folder)
    bodies = [json.dumps(contender.body(row)).encode() for row in system.rows]
    log = folder / "log"
    begun = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_variables(contender, system, folder),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}{contender.path}"
            while not _answers(url, bodies[0]):
                if process.poll() is not None or time.perf_counter() - begun > _START_S:
                    raise RuntimeError(f"{contender.name} does not answer: {log.read_text(errors='replace')[-800:]}")
                time.sleep(0.01)
            yield Running(contender, process, "127.0.0.1", port, time.perf_counter() - begun, bodies)
        finally:
            _stop(process)


def _rows(row: Row) -> object:
    return {"rows": [row]}


def _tensors(row: Row) -> object:
    numbers = [value for name, value in row.items() if name.startswith("number_")]
    strings = [value for name, value in row.items() if name.startswith("category_")]
    return {
        "inputs": [
            {"name": "numbers", "shape": [1, len(numbers)], "datatype": "FP64", "data": [v or 0.0 for v in numbers]},
            {"name": "strings", "shape": [1, len(strings)], "datatype": "BYTES", "data": strings},
        ]
    }


def _mlserver(made: Environment, _system: Served, port: int, folder: Path) -> Sequence[str]:
    subprocess.run([made.python, PEERS / "with_mlserver.py", folder, str(port)], check=True, capture_output=True)
    return [str(made.python.parent / "mlserver"), "start", str(folder)]


def _bentoml(made: Environment, _system: Served, port: int, _folder: Path) -> Sequence[str]:
    target = "with_bentoml:Served"
    program = str(made.python.parent / "bentoml")
    return [program, "serve", target, "--working-dir", str(PEERS), "--port", str(port), "--host", "127.0.0.1"]


def _mlflow(made: Environment, system: Served, port: int, folder: Path) -> Sequence[str]:
    model = folder / "model"
    if not model.exists():
        command = [made.python, PEERS / "with_mlflow.py", model, system.package]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(PEERS)})
    words = ["models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port), "--workers", "1"]
    return [str(made.python.parent / "mlflow"), *words]


_PEERS: Final[
    dict[str, tuple[str, Callable[[Row], object], Callable[[Environment, Served, int, Path], Sequence[str]]]]
] = {
    "mlserver": ("/v2/models/served/infer", _tensors, _mlserver),
    "bentoml": ("/predict", _rows, _bentoml),
    "mlflow": ("/invocations", lambda row: {"dataframe_records": [row]}, _mlflow),
}


def _variables(contender: Contender, system: Served, folder: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}
    engine = str(Path(mlsystem.__file__).parents[1])
    project = str(Path(__file__).parents[3])
    if contender.environment is None:
        state = f"sqlite:{folder / 'serving.db'}"  # of this run alone
        return {**inherited, **quiet, "PYTHONPATH": os.pathsep.join([engine, project]), "MLSYSTEM_STATE": state}
    programs = str(contender.environment.python.parent)
    path = os.pathsep.join([programs, inherited.get("PATH", "")])
    return {**inherited, **quiet, "PATH": path, "PYTHONPATH": str(PEERS), "SERVED_PACKAGE": str(system.package)}


def _answers(url: str, body: bytes) -> bool:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - a server of ours
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status == 200
    except urllib.error.HTTPError as error:
        if error.code < 500:
            raise RuntimeError(f"{url}: {error.code} {error.read()[:400]!r}") from error
        return False
    except OSError:
        return False


def _free_port() -> int:
    """A port that is free together with the next ones."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            with contextlib.suppress(OSError):
                for port in range(first + 1, first + _PORTS):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
                return int(first)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: its whole session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
