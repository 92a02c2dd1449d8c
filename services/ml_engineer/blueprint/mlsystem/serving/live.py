"""Which model answers now, and how another takes over without a lost request.

Owns one pointer. A request takes the model once and keeps it to its end; a switch replaces the pointer, when the
new model is loaded and has predicted, and the old one goes when its last request ends. The registry is asked for
its next entry a few times a second, which costs one failed read. A version that cannot be loaded is refused, which
is told by a metric and in the readiness; the one that was live before it answers. Leaves promoting to others: a
server follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mlsystem.errors import MlsystemError
from mlsystem.registry import Ledger
from mlsystem.serving.answers import Refusal
from mlsystem.serving.model import Model, Package

if TYPE_CHECKING:
    from mlsystem.output import Reporter
    from mlsystem.registry import Registry
    from mlsystem.serving.metrics import Metrics

POLL_S = 0.25
"""Seconds between two looks at the registry: with the loading of a model a switch takes less than a second."""

POLL_FAR_S = 2.0
"""The same of a registry in a bucket, where every look is a request that is paid for."""

_RETRY_S = 5.0
"""Seconds before a version that could not be loaded is tried again; any other version is taken at once."""


class Source(Protocol):
    """Where packages come from; both calls block."""

    poll_s: float
    """Seconds between two looks."""

    def wanted(self) -> Sequence[int]:
        """Return the versions that may answer, best first, none if none should yet; cheap."""
        ...

    def package(self, version: int) -> Package:
        """Return the package of a version."""
        ...


class Active:
    """The active version of a registry, and those that stand in for it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ledger = Ledger()
        self.poll_s = POLL_S if registry.objects.near else POLL_FAR_S

    def wanted(self) -> Sequence[int]:
        """Return the active version and those that were live before it; RegistryError if the history is damaged."""
        self._ledger = self._registry.follow(self._ledger)
        return self._ledger.candidates

    def package(self, version: int) -> Package:
        """Return a version's package, every file checked against its digest."""
        entry = self._ledger.package_of(version)
        return Package(version, entry.digest, self._registry.files(entry))


class Fixed:
    """One package, whatever the registry says."""

    poll_s = POLL_S

    def __init__(self, package: Package) -> None:
        self._package = package

    def wanted(self) -> Sequence[int]:
        """Return the package's version."""
        return (self._package.version,)

    def package(self, version: int) -> Package:  # noqa: ARG002 - there is only one
        """Return the package."""
        return self._package


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that should answer and cannot be loaded."""

    version: int
    error: MlsystemError
    retry_at: float
    """On the clock of `time.monotonic`."""


class Live:
    """The model that answers, and the task that keeps it current."""

    def __init__(self, source: Source, *, name: str, metrics: Metrics, reporter: Reporter) -> None:
        self._source = source
        self._name = name
        self._metrics = metrics
        self._reporter = reporter
        self._model: Model | None = None
        self._refused: dict[int, Refused] = {}

    @property
    def model(self) -> Model | None:
        """The model that answers, None before the first promotion."""
        return self._model

    def require(self) -> Model:
        """Return the model that answers; Refusal 503 before the first promotion."""
        if self._model is None:
            raise Refusal(503, "no_model", "no version is live yet; promote one with `python -m mlsystem promote`")
        return self._model

    @property
    def refused(self) -> tuple[Refused, ...]:
        """The versions that should answer rather than the one that does, and cannot be loaded."""
        return tuple(self._refused.values())

    def refresh(self) -> None:
        """Let the best version that can be loaded answer; blocking.

        Raises: the error of the best one if none can be loaded and none answers.
        """
        wanted = self._source.wanted()
        current = self._model.name.version if self._model else None
        for version in wanted:
            if version == current or self._take(version):
                self._forget(wanted[: wanted.index(version)])
                return
        if self._model is None and wanted:
            raise self._refused[wanted[0]].error

    def _take(self, version: int) -> bool:
        """Load a version and let it answer; False if it cannot be loaded, now or a moment ago."""
        refused = self._refused.get(version)
        if refused is not None and time.monotonic() < refused.retry_at:
            return False
        try:
            model = Model(self._source.package(version), name=self._name)
        except MlsystemError as error:
            self._refuse(version, error)
            return False
        self._model = model
        self._metrics.switched(model)
        self._reporter.progress("serve", None, f"version {version} answers", version=version)
        return True

    def _refuse(self, version: int, error: MlsystemError) -> None:
        told = self._refused.get(version)
        self._refused[version] = Refused(version, error, time.monotonic() + _RETRY_S)
        self._metrics.add("model_switch_failures")
        self._metrics.set("mlsystem_model_refused", (str(version),), 1)
        if told is None or str(told.error) != str(error):
            self._reporter.progress("serve", None, f"version {version} is refused: {error}", version=version)

    def _forget(self, still: Sequence[int]) -> None:
        """Refused is what should answer and cannot, and nothing else."""
        for version in [version for version in self._refused if version not in still]:
            del self._refused[version]
            self._metrics.set("mlsystem_model_refused", (str(version),), 0)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Follow the source while the context lasts."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        """Keep the model current until cancelled; a failure is told and counted, and tried again later."""
        told = ""
        while True:
            await asyncio.sleep(self._source.poll_s)
            try:
                await asyncio.to_thread(self.refresh)
                told = ""
            except Exception as error:  # noqa: BLE001 - a follower that dies would leave an old version live, unseen
                self._metrics.add("model_switch_failures")
                if str(error) != told:
                    self._reporter.progress("serve", None, f"no switch: {error}")
                told = str(error)
