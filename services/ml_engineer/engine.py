"""Runs the delivered engine: `python -m mlsystem <command>` from the vendored wheel, in a subprocess of its own.

What was shipped is what produces the result. The subprocess has no keys and no bus in its environment, its
own process group and its own scratch directory, and dies with its parent. It speaks JSON lines: progress, spans and
one result. Cancelling the call ends the whole group within two seconds and removes the scratch directory, however
the group is killed. Result shapes are read loosely: newer engines may say more.
"""

import asyncio
import contextlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from contracts.envelope import split_traceparent
from contracts.events import Progressed
from services._runtime import telemetry
from services._runtime.embedded import die_with_parent
from services._runtime.errors import Permanent, Transient

_GRACE_S: Final = 1.0
_LINE_BYTES: Final = 16 * 1024 * 1024
EXIT_GATE: Final = 3
NOTHING_LIVE: Final = "nothing_active"
"""Code of the engine's refusal of what needs a live version, while there is none."""

log = structlog.get_logger()


class Result(BaseModel):
    """Something the engine said."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ColumnProfile(Result):
    """A column of the data, before any decision."""

    name: str
    type: str
    missing: int | float = 0
    distinct: int = 0
    examples: tuple[str, ...] = ()


class Candidate(Result):
    """A column that could be the target."""

    target: str
    kind: str
    score: float
    why: str = ""


class OwnModel(Result):
    """What a file that is to be served asks for."""

    takes: tuple[str, ...]
    """Columns of the data that it has inputs for."""


class Problem(Result):
    """Something about the data that shows before anybody has said what is predicted."""

    code: str
    columns: tuple[str, ...] = ()


class Profile(Result):
    """`mlsystem profile`."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    candidates: tuple[Candidate, ...] = ()
    time: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    reader: dict[str, JsonValue] = {}
    problems: tuple[Problem, ...] = ()
    model: OwnModel | None = None
    """A model that the request brings along, where it does."""


class Finding(Result):
    """Something about the data that people must know."""

    kind: str
    columns: tuple[str, ...] = ()
    action: str
    text: str


class Split(Result):
    """How rows were divided."""

    method: str
    train: int
    holdout: int
    why: str = ""


class Validation(Result):
    """`mlsystem validate`."""

    digest: str
    rows: int
    columns: JsonValue = None
    findings: tuple[Finding, ...] = ()
    split: Split
    snapshot: dict[str, JsonValue] = {}


class Training(Result):
    """`mlsystem train`."""

    digest: str
    candidates: tuple[dict[str, JsonValue], ...] = ()
    ensemble: dict[str, float] = {}
    metric: str = ""
    calibration: JsonValue = None
    wall_s: float = 0


class GateResult(Result):
    """A gate of `mlsystem evaluate`."""

    name: str
    value: float | bool | str | None = None
    threshold: float | bool | str | None = None
    passed: bool
    text: str = ""


class Evaluation(Result):
    """`mlsystem evaluate`."""

    digest: str
    metrics: dict[str, dict[str, float | None]]
    gates: tuple[GateResult, ...]
    outcome: str
    best_baseline: str = ""
    tie_with_linear: bool = False
    latency: dict[str, JsonValue] = {}
    memory_mb: float | None = None
    model_mb: float | None = None
    holdout: dict[str, JsonValue] = {}
    own: dict[str, dict[str, JsonValue]] = {}
    """What the owner added (`derive`, `hooks`, `business`), with its cost."""


class Packaged(Result):
    """`mlsystem package`."""

    digest: str
    version: int
    created: bool
    path: str = ""
    outcome: str = ""
    servable: bool = False
    example: dict[str, JsonValue] = {}
    """A row to try; empty where none can be shown."""


class Promotion(Result):
    """`mlsystem promote`."""

    version: int
    previous: int | None = None


class Sbom(Result):
    """`mlsystem sbom`."""

    path: str
    components: int
    licences: dict[str, str] = {}
    copyleft: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    not_installed: tuple[str, ...] = ()


class Smoke(Result):
    """`mlsystem smoke`."""

    ok: bool
    version: int | None = None
    prediction: JsonValue = None


ResultT = TypeVar("ResultT", bound=Result)


@dataclass(frozen=True, slots=True)
class Watchers:
    """Where a run tells of itself while it runs."""

    progress: Callable[[Progressed], Awaitable[None]]
    span: Callable[[telemetry.SpanRecord], None]


@dataclass(frozen=True, slots=True)
class Engine:
    """The wheel, and where its support files lie."""

    wheel: Path
    libraries: Path
    """Directory for LD_LIBRARY_PATH: holds a libgomp where the machine has none."""
    threads: int = 2

    async def run(
        self, command: Sequence[str], directory: Path, result: type[ResultT], *, watchers: Watchers, log_file: Path
    ) -> ResultT:
        """One command's result. Raises Permanent with the engine's own reason, Transient when it was stopped."""
        said = await self.say(command, directory, watchers=watchers, log_file=log_file)
        if not said.get("ok", False):
            raise Permanent(_reason(command[0], said))
        try:
            return result.model_validate(said)
        except ValidationError as error:
            raise Permanent(f"mlsystem {command[0]} answered what cannot be read: {_fields(error)}") from error

    async def say(
        self, command: Sequence[str], directory: Path, *, watchers: Watchers, log_file: Path
    ) -> dict[str, Any]:
        """As `run`, but the result as it stands, also when it is a refusal."""
        log_file.parent.mkdir(parents=True, exist_ok=True)
        spans: list[telemetry.SpanRecord] = []
        arguments = ("-m", "mlsystem", *command, "--jsonl")
        try:
            with log_file.open("ab") as errors:
                async with self.spawned(arguments, directory, stdout=asyncio.subprocess.PIPE, stderr=errors) as process:
                    said = await _listen(command[0], process, watchers, spans)
                    code = await process.wait()
        finally:
            for span in hung_under(spans, telemetry.current_traceparent()):
                watchers.span(span)
        if said is None:
            raise _died(command[0], code, log_file)
        if _was_stopped(said):
            raise Transient(f"mlsystem {command[0]} was stopped from outside; finished stages are kept")
        return said

    @contextlib.asynccontextmanager
    async def spawned(
        self, arguments: Sequence[str], directory: Path, *, stdout: int | IO[bytes], stderr: int | IO[bytes]
    ) -> AsyncGenerator[asyncio.subprocess.Process]:
        """`python` with these arguments, in a process group and a scratch directory of its own.

        Whatever happens, both are gone afterwards: a process that was killed removes nothing itself.
        """
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mlmesh-run-"))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=directory,
                env=self.environment(scratch),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                limit=_LINE_BYTES,
                preexec_fn=die_with_parent(signal.SIGKILL),
                start_new_session=True,
            )
            try:
                yield process
            finally:
                await end(process)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def environment(self, scratch: Path) -> dict[str, str]:
        """All that the subprocess is given: no keys, no bus, no user site; `scratch` is where it writes for a while."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/tmp"),  # noqa: S108 - only where the machine has no home
            "TMPDIR": str(scratch),
            "LANG": "C.UTF-8",
            "TRACEPARENT": telemetry.current_traceparent(),
            "ORT_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": str(self.threads),
            "OPENBLAS_NUM_THREADS": str(self.threads),
            "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "Haswell"),
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "1",  # a json.py in the user's workspace is not the engine's
            "LD_LIBRARY_PATH": str(self.libraries),
            "PYTHONPATH": str(self.wheel),
        }


def link_libgomp(directory: Path) -> None:
    """Makes scikit-learn's bundled OpenMP runtime findable for lightgbm on machines without libgomp1."""
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "libgomp.so.1"
    site = Path(json.__file__).parents[1] / "site-packages"
    roots = [Path(part) for part in sys.path if part.endswith("site-packages")] or [site]
    for root in roots:
        for bundled in sorted((root / "scikit_learn.libs").glob("libgomp*.so*")):
            with contextlib.suppress(FileExistsError):
                link.symlink_to(bundled)
            return


async def _listen(
    command: str, process: asyncio.subprocess.Process, watchers: Watchers, spans: list[telemetry.SpanRecord]
) -> dict[str, Any] | None:
    """Reads JSON lines to the end; the result line, or None when there was none. Spans are collected as they come."""
    result: dict[str, Any] | None = None
    while line := await _line(command, process):
        try:
            told = _read(line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("engine.strange_line", line=line[:200].decode(errors="replace"), problem=str(error)[:200])
            continue
        match told:
            case Progressed():
                await watchers.progress(told)
            case telemetry.SpanRecord():
                spans.append(told)
            case _:
                result = told
    return result


def _read(line: bytes) -> Progressed | telemetry.SpanRecord | dict[str, Any]:
    """What one line tells; a result comes as it stands. Raises ValueError and its like for a line of another kind."""
    match json.loads(line):
        case {"event": "progress", **about}:
            return _progressed(about)
        case {"event": "span", **about}:
            return _span(about)
        case {"event": "result", **about}:
            return about
        case _:
            raise ValueError("no progress, span or result")


async def _line(command: str, process: asyncio.subprocess.Process) -> bytes:
    """The next line, empty at the end. Raises Permanent for one that is larger than memory should hold."""
    if process.stdout is None:
        return b""
    try:
        return await process.stdout.readline()
    except ValueError as error:
        raise Permanent(
            f"mlsystem {command} said more than {_LINE_BYTES // 2**20} MiB in one line: the data are too wide for it,"
            " leave columns out"
        ) from error


def _progressed(told: dict[str, Any]) -> Progressed:
    """Progress in the mesh's words; numbers that JSON cannot carry are left out."""
    fraction = told.get("fraction")
    metrics: dict[str, Any] = dict(told.get("metrics") or {})
    numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    share = float(fraction) if isinstance(fraction, int | float) and math.isfinite(fraction) else None
    return Progressed(
        step=str(told.get("step", "")),
        fraction=None if share is None else min(1.0, max(0.0, share)),
        message=str(told.get("message", "")),
        metrics={name: value for name, value in numbers.items() if math.isfinite(value)},
    )


def _span(told: dict[str, Any]) -> telemetry.SpanRecord:
    attributes: dict[str, Any] = told.get("attributes") or {}
    return telemetry.SpanRecord(
        name=str(told["name"]),
        trace_id=str(told["trace_id"]),
        span_id=str(told["span_id"]),
        parent_id=str(told.get("parent_id") or ""),
        start_ns=int(told["start_ns"]),
        end_ns=int(told["end_ns"]),
        attributes={name: value for name, value in attributes.items() if isinstance(value, str | int | float | bool)},
    )


def hung_under(spans: Sequence[telemetry.SpanRecord], above: str) -> list[telemetry.SpanRecord]:
    """The spans as a whole tree under `above`, a traceparent: what a killed run began and never told of is left out."""
    told = {span.span_id for span in spans}
    top = split_traceparent(above)
    return [span if span.parent_id in told or top is None else replace(span, parent_id=top[1]) for span in spans]


def _reason(command: str, said: dict[str, Any]) -> str:
    error: dict[str, Any] = said.get("error") or {}
    message = str(error.get("message") or f"mlsystem {command} failed")
    details: list[dict[str, Any]] = error.get("details") or []
    shown = "; ".join(str(detail["message"]) for detail in details[:6] if detail.get("message"))
    return f"{message} ({shown})" if shown and shown not in message else message


def _fields(error: ValidationError) -> str:
    """Which fields are wrong, without their values."""
    found = error.errors(include_url=False, include_input=False)[:6]
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in found)


def _was_stopped(said: dict[str, Any]) -> bool:
    """Whether a signal ended the run: the engine says so itself, and the same run may work later."""
    error: dict[str, Any] = said.get("error") or {}
    return not said.get("ok", False) and error.get("code") in {"terminated", "interrupted"}


def _died(command: str, code: int, log_file: Path) -> Exception:
    """A run that ended without a result: killed from outside may work again, a crash does not."""
    if code in {-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT}:
        return Transient(f"mlsystem {command} was killed by signal {-code} (out of memory?): see {log_file}")
    words = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Permanent(f"mlsystem {command} crashed with exit code {code}: {words[-1] if words else 'no message'}")


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends the whole process group: first asked, a second later without asking, whoever of it is left."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(process.wait()), _GRACE_S)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, which)


@dataclass(slots=True)
class EngineShelf:
    """Builds the wheel once a process and home, and lends it out."""

    directory: Path
    threads: int = 2
    _engine: Engine | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def engine(self) -> Engine:
        """The engine; the first call builds it."""
        async with self._lock:
            if self._engine is None:
                self._engine = await asyncio.to_thread(self._build)
            return self._engine

    def _build(self) -> Engine:
        from services.ml_engineer import wheel

        libraries = self.directory / "lib"
        link_libgomp(libraries)
        return Engine(wheel.build(self.directory), libraries, self.threads)
