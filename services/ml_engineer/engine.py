"""Runs the delivered engine: `python -m mlsystem <command>` from the vendored wheel, in a subprocess of its own.

What was shipped is what produces the result. The subprocess has no keys and no bus in its environment, its
own process group, and dies with its parent. It speaks JSON lines: progress, spans and one result. Cancelling
the call ends the whole group within a second. Result shapes are read loosely: newer engines may say more.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue

from contracts.envelope import split_traceparent
from contracts.events import Progressed
from services._runtime import telemetry
from services._runtime.embedded import die_with_parent
from services._runtime.errors import Permanent, Transient

_GRACE_S: Final = 1.0
_LINE_BYTES: Final = 16 * 1024 * 1024
EXIT_GATE: Final = 3

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


class Profile(Result):
    """`mlsystem profile`."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    candidates: tuple[Candidate, ...] = ()
    time: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    reader: dict[str, JsonValue] = {}


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


class Packaged(Result):
    """`mlsystem package`."""

    digest: str
    version: int
    created: bool
    path: str = ""
    outcome: str = ""
    servable: bool = False


class Promotion(Result):
    """`mlsystem promote`."""

    version: int
    previous: int | None = None


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
        """One command's result. Raises Permanent with the engine's own reason, Transient when it was killed."""
        said = await self.say(command, directory, watchers=watchers, log_file=log_file)
        if not said.get("ok", False):
            raise Permanent(_reason(command[0], said))
        return result.model_validate(said)

    async def say(
        self, command: Sequence[str], directory: Path, *, watchers: Watchers, log_file: Path
    ) -> dict[str, Any]:
        """As `run`, but the result as it stands, also when it is a refusal."""
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mlsystem",
                *command,
                "--jsonl",
                cwd=directory,
                env=self.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LINE_BYTES,
                preexec_fn=die_with_parent(signal.SIGKILL),
                start_new_session=True,
            )
            spans: list[telemetry.SpanRecord] = []
            try:
                said = await _listen(process, watchers, spans)
                code = await process.wait()
            finally:
                await _end(process)
                for span in _hung(spans, telemetry.current_traceparent()):
                    watchers.span(span)
        if said is None:
            raise _died(command[0], code, log_file)
        return said

    def environment(self) -> dict[str, str]:
        """All that the subprocess is given: no keys, no bus, no user site."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/tmp"),  # noqa: S108 - only where the machine has no home
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108
            "LANG": "C.UTF-8",
            "TRACEPARENT": telemetry.current_traceparent(),
            "ORT_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": str(self.threads),
            "OPENBLAS_NUM_THREADS": str(self.threads),
            "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "Haswell"),
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
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
    process: asyncio.subprocess.Process, watchers: Watchers, spans: list[telemetry.SpanRecord]
) -> dict[str, Any] | None:
    """Reads JSON lines to the end; the result line, or None when there was none. Spans are collected as they come."""
    result: dict[str, Any] | None = None
    stdout = process.stdout
    while stdout is not None and (line := await stdout.readline()):
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            log.warning("engine.not_json", line=line[:200].decode(errors="replace"))
            continue
        match told.get("event"):
            case "progress":
                await watchers.progress(_progressed(told))
            case "span":
                spans.append(_span(told))
            case "result":
                result = told
            case other:
                log.warning("engine.unknown_event", event_name=str(other))
    return result


def _progressed(told: dict[str, Any]) -> Progressed:
    fraction = told.get("fraction")
    metrics: dict[str, Any] = told.get("metrics") or {}
    return Progressed(
        step=str(told.get("step", "")),
        fraction=None if fraction is None else min(1.0, max(0.0, float(fraction))),
        message=str(told.get("message", "")),
        metrics={name: float(value) for name, value in metrics.items() if isinstance(value, int | float)},
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


def _hung(spans: Sequence[telemetry.SpanRecord], above: str) -> list[telemetry.SpanRecord]:
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


def _died(command: str, code: int, log_file: Path) -> Exception:
    """A run that ended without a result: killed from outside may work again, a crash does not."""
    if code in {-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT}:
        return Transient(f"mlsystem {command} was killed by signal {-code} (out of memory?): see {log_file}")
    words = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Permanent(f"mlsystem {command} crashed with exit code {code}: {words[-1] if words else 'no message'}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the whole process group: first asked, a second later without asking."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), _GRACE_S)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


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
