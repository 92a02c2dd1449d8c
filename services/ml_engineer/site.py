"""A delivered system as a task finds it: where it lies, what its own engine says, how what is done with it ends.

Left out: what is done (operations.py, upgrade.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from contracts.events import Delivered, Gate
from services._runtime.home import Home
from services._runtime.journal import Activation
from services._runtime.systems import find_engine, system_directory
from services.ml_engineer import delivery
from services.ml_engineer.build import watchers
from services.ml_engineer.engine import Engine, Result


class Said(Result):
    """A result of the engine of whatever version: fields are looked up where they are needed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def get(self, name: str) -> Any:
        """A field that this engine may say; None where it does not."""
        return (self.model_extra or {}).get(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended: what is delivered, and the report's words."""

    delivered: Delivered
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One system, in one activation."""

    activation: Activation
    engine: Engine
    """Of this mesh: what an upgrade brings."""
    home: Home
    workspace: Path
    system: str
    request: str

    @property
    def directory(self) -> Path:
        """The system's directory."""
        return self.workspace / system_directory(self.system)

    @property
    def asked_at(self) -> datetime:
        """When the task was submitted, in this machine's time zone: `yesterday` is the asker's, not a retry's."""
        return (self.activation.state.submitted_at or self.activation.publisher.clock()).astimezone()

    @property
    def own_engine(self) -> Engine:
        """The engine that the system vendors: what was shipped is what answers."""
        return replace(self.engine, wheel=find_engine(self.directory))

    async def note_before(self) -> None:
        """Records which files stand there: the report tells of those that differ afterwards."""
        await self.activation.step("before", self._digests, result=dict[str, str], inputs=self.system)

    async def say(self, words: Sequence[str]) -> Said:
        """One command of the system's engine. Raises Permanent with the engine's reason."""
        return await self.own_engine.run(
            words, self.directory, Said, watchers=watchers(self.activation, words[0]), log_file=self.log(words[0])
        )

    async def answer(self, words: Sequence[str]) -> dict[str, Any]:
        """As `say`, but the answer as it stands, also when it is a refusal."""
        return await self.own_engine.say(
            words, self.directory, watchers=watchers(self.activation, words[0]), log_file=self.log(words[0])
        )

    def log(self, step: str) -> Path:
        """Where a step's words go."""
        return self.home.step_log(self.activation.task, step)

    def ended(
        self,
        told: str,
        *,
        version: int | None = None,
        gates: tuple[Gate, ...] = (),
        outcome: Literal["success", "failed"] = "success",
        kept: tuple[str, ...] = (),
    ) -> Outcome:
        """The end of an operation."""
        delivered = Delivered(
            system=self.system,
            system_dir=f"/{system_directory(self.system)}",
            version=version,
            outcome=outcome,
            gates=gates,
            kept=kept,
        )
        return Outcome(delivered, told)

    async def _digests(self) -> dict[str, str]:
        return await asyncio.to_thread(delivery.digests, self.workspace, self.system)
