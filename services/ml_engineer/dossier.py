"""Everything an engagement knows and has measured: what documents, the report and the delivery are written from.

Plain data, gathered by the engagement from the journal's steps; nothing here is computed twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, JsonValue

from contracts.events import Question, Section
from services.ml_engineer.engine import Evaluation, Packaged, Profile, Promotion, Training, Validation
from services.ml_engineer.slots import Known


class Design(BaseModel):
    """What will be built, and what it rests on."""

    model_config = ConfigDict(frozen=True)

    system: str
    """Name of the system, such as `telco-churn`."""
    spec: dict[str, JsonValue]
    """system.toml as nested tables; only keys that depart from their defaults."""
    assumptions: tuple[str, ...]
    """Defaults that nobody confirmed, in words."""
    unmet: tuple[str, ...]
    """What was asked for and has no effect yet, in words."""
    sections: tuple[Section, ...]
    """The design document before anything was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """An engagement that was built."""

    request: str
    task: str
    design: Design
    known: Mapping[str, Known]
    """Slot id -> what was known or assumed."""
    questions: tuple[Question, ...]
    profile: Profile
    validation: Validation
    training: Training
    evaluation: Evaluation
    packaged: Packaged
    promoted: Promotion | None
    """None: the version is registered only; the promote command is printed."""
    engine_version: str
    wheel: str
    """File name of the vendored wheel."""
    wheel_sha256: str

    @property
    def directory(self) -> str:
        """`ml/<system with _>`, relative to the workspace."""
        return system_directory(self.design.system)


def system_directory(system: str) -> str:
    """Where a system lies, relative to the workspace."""
    return f"ml/{system.replace('-', '_')}"
