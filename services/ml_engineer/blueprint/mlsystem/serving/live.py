"""Which model answers now, and how another takes over without a lost request.

Owns one pointer. A request takes the model once and keeps it to its end; a switch replaces the pointer, when the
new model is loaded and has predicted, and the old one goes when its last request ends. The registry is asked for
its next entry a few times a second, which costs one failed read. Leaves promoting to others: a server follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

from mlsystem.registry import Ledger
from mlsystem.serving.answers import Refusal
from mlsystem.serving.model import Model, Package

if TYPE_CHECKING:
    from mlsystem.output import Reporter
    from mlsystem.registry import Registry
    from mlsystem.serving.metrics import Metrics

POLL_S = 0.25
"""Seconds between two looks at the registry: with the loading of a model a switch takes less than a second."""

_RETRY_S = 5.0
"""Seconds before a version that could not be loaded is tried again; any other version is taken at once."""


class Source(Protocol):
    """Where packages come from; both calls block."""

    def wanted(self) -> int | None:
        """Return the version that should answer, None if none should yet; cheap."""
        ...

    def package(self, version: int) -> Package:
        """Return the package of a version."""
        ...


class Active:
    """The active version of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ledger = Ledger()

    def wanted(self) -> int | None:
        """Return the active version; RegistryError if the history is damaged."""
        self._ledger = self._registry.follow(self._ledger)
        return self._ledger.active

    def package(self, version: int) -> Package:
        """Return a version's package, every file checked against its digest."""
        return Package.stored(self._registry, version)


class Fixed:
    """One package, whatever the registry says."""

    def __init__(self, package: Package) -> None:
        self._package = package

    def wanted(self) -> int:
        """Return the package's version."""
        return self._package.version

    def package(self, version: int) -> Package:  # noqa: ARG002 - there is only one
        """Return the package."""
        return self._package


class Live:
    """The model that answers, and the task that keeps it current."""

    def __init__(self, source: Source, *, name: str, metrics: Metrics, reporter: Reporter) -> None:
        self._source = source
        self._name = name
        self._metrics = metrics
        self._reporter = reporter
        self._model: Model | None = None
        self._failed: int | None = None
        self._retry_at = 0.0

    @property
    def model(self) -> Model | None:
        """The model that answers, None before the first promotion."""
        return self._model

    def require(self) -> Model:
        """Return the model that answers; Refusal 503 before the first promotion."""
        if self._model is None:
            raise Refusal(503, "no_model", "no version is live yet; promote one with `python -m mlsystem promote`")
        return self._model

    def refresh(self) -> None:
        """Let the wanted version answer; blocking. The model that answered stays if the new one cannot be loaded."""
        version = self._source.wanted()
        current = self._model.name.version if self._model else None
        if version is None or version == current or (version == self._failed and time.monotonic() < self._retry_at):
            return
        self._failed, self._retry_at = version, time.monotonic() + _RETRY_S
        model = Model(self._source.package(version), name=self._name)
        self._model, self._failed = model, None
        self._metrics.switched(model)
        self._reporter.progress("serve", None, f"version {version} answers", version=version)

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
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
                told = ""
            except Exception as error:  # noqa: BLE001 - a follower that dies would leave an old version live, unseen
                self._metrics.switch_failures.inc()
                if str(error) != told:
                    self._reporter.progress("serve", None, f"no switch: {error}")
                told = str(error)
