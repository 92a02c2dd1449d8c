"""Which model answers now, and how another takes over without a lost request.

Owns one pointer. A request takes the model once and keeps it to its end; a switch replaces the pointer, when the
new model is loaded and has predicted, and the old one goes when its last request ends. The registry is asked for
its next entry a few times a second, which costs one failed read. A version that cannot be loaded is refused, which
is told by a metric and in the readiness; the one that was live before it answers. A server that finds its registry
out of reach begins with what it answered with last, and says so. Leaves promoting to others: a server follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from mlsystem.errors import MlsystemError, RegistryError
from mlsystem.registry import Ledger
from mlsystem.serving.answers import Refusal
from mlsystem.serving.model import Model, Package

if TYPE_CHECKING:
    from mlsystem.output import Reporter
    from mlsystem.registry import Registry
    from mlsystem.serving.kept import Kept
    from mlsystem.serving.metrics import Metrics

AWAY: Final = "registry_unusable"
"""What a registry fails with that cannot be reached."""

POLL_S = 0.25
"""Seconds between two looks at the registry: with the loading of a model a switch takes less than a second."""

POLL_FAR_S = 2.0
"""The same of a registry in a bucket, where every look is a request that is paid for."""

_PATIENCE_S: Final = 10.0
"""How long a start waits for a registry where it could begin without: a store that hangs hangs for a minute."""

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

    def keep(self, package: Package) -> None:
        """Hear that a package answers from now on."""
        ...

    def last(self) -> Package | None:
        """Return the package that answered here last, None if that is not known."""
        ...


class Active:
    """The active version of a registry, and those that stand in for it."""

    def __init__(self, registry: Registry, kept: Kept | None = None) -> None:
        self._registry = registry
        self._kept = None if registry.objects.near else kept  # what is on this host needs no copy here
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

    def keep(self, package: Package) -> None:
        """Keep the package on this host if the registry is elsewhere."""
        if self._kept is not None:
            self._kept.put(package)

    def last(self) -> Package | None:
        """Return what was kept."""
        return self._kept.get() if self._kept is not None else None


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

    def keep(self, package: Package) -> None:
        """Nothing is to be kept of what is on this host."""

    def last(self) -> Package | None:
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
        self._away = ""
        self._refreshing = threading.Lock()

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

    @property
    def away(self) -> str:
        """Why the registry could not be asked the last time; empty if it could."""
        return self._away

    def begin(self) -> None:
        """Let the wanted version answer, or what answered here last if the registry is out of reach; blocking.

        Raises: as `refresh`, if nothing was kept or something else is wrong.
        """
        kept = self._source.last()
        if kept is None:
            self.refresh()
            return
        asked: Future[None] = Future()
        threading.Thread(target=self._ask, args=(asked,), name="registry", daemon=True).start()
        try:
            asked.result(_PATIENCE_S)
        except TimeoutError:
            self._stand_in(kept, f"the registry did not answer within {_PATIENCE_S:g} s")
        except RegistryError as error:
            if error.code != AWAY:
                raise
            self._stand_in(kept, str(error))

    def _ask(self, asked: Future[None]) -> None:
        """Refresh for somebody who does not wait for ever."""
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            asked.set_exception(error)
        else:
            asked.set_result(None)

    def _stand_in(self, package: Package, why: str) -> None:
        self._away = why
        self._metrics.set("mlsystem_registry_up", (), 0)
        self._reporter.progress("serve", None, f"version {package.version} was kept here and answers: {why}")
        self._answer(Model(package, name=self._name))

    def refresh(self) -> None:
        """Let the best version that can be loaded answer; blocking.

        Raises: the error of the best one if none can be loaded and none answers.
        """
        with self._refreshing:
            wanted = self._wanted()
            current = self._model.name.version if self._model else None
            for version in wanted:
                if version == current or self._take(version):
                    self._forget(wanted[: wanted.index(version)])
                    return
            if self._model is None and wanted:
                raise self._refused[wanted[0]].error

    def _wanted(self) -> Sequence[int]:
        """Ask the source, and note whether it could be asked."""
        try:
            wanted = self._source.wanted()
        except RegistryError as error:
            self._away = str(error) if error.code == AWAY else ""
            self._metrics.set("mlsystem_registry_up", (), error.code != AWAY)
            raise
        self._away = ""
        self._metrics.set("mlsystem_registry_up", (), 1)
        return wanted

    def _take(self, version: int) -> bool:
        """Load a version and let it answer; False if it cannot be loaded, now or a moment ago."""
        refused = self._refused.get(version)
        if refused is not None and time.monotonic() < refused.retry_at:
            return False
        try:
            package = self._source.package(version)
            model = Model(package, name=self._name)
        except MlsystemError as error:
            self._refuse(version, error)
            return False
        self._answer(model)
        self._source.keep(package)
        return True

    def _answer(self, model: Model) -> None:
        self._model = model
        version = model.name.version
        self._metrics.switched(model)
        self._reporter.progress("serve", None, f"version {version} answers", version=version)

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
