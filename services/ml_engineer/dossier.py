"""Everything an engagement knows and has measured: what documents, the report and the delivery are written from.

Plain data, gathered by the engagement from the journal's steps; nothing here is computed twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from contracts.events import Question, Section
from services._runtime.errors import Permanent
from services._runtime.systems import engine_version, system_directory
from services.ml_engineer.engine import Evaluation, Packaged, Profile, Promotion, Sbom, Training, Validation
from services.ml_engineer.evidence import Tested
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
    wheel: str
    """File name of the vendored wheel."""
    wheel_sha256: str
    sbom: Sbom | None = None
    tested: Tested | None = None
    """The delivered tests; None before they were run."""
    drill: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """`mlsystem drill`; empty where it was not run."""

    @property
    def engine_version(self) -> str:
        """Of the vendored engine."""
        return engine_version(self.wheel)

    @property
    def directory(self) -> str:
        """`ml/<system with _>`, relative to the workspace."""
        return system_directory(self.design.system)


RECORD: Final = "docs/record.json"
"""Where a delivered system keeps what its documents were written from."""

_RECORDS: Final = TypeAdapter(Dossier)


def record(dossier: Dossier) -> str:
    """The dossier as JSON, without values of the data but for one example a column, and none under a regulation."""
    governance = dossier.design.spec.get("governance")
    shown = 0 if isinstance(governance, dict) and governance.get("regime") else 1
    columns = tuple(c.model_copy(update={"examples": c.examples[:shown]}) for c in dossier.profile.columns)
    told = replace(dossier, profile=dossier.profile.model_copy(update={"columns": columns}))
    return _RECORDS.dump_json(told, indent=1).decode() + "\n"


def read_record(directory: Path) -> Dossier:
    """What the documents in a system's directory were written from. Raises Permanent when it is not there."""
    file = directory / RECORD
    try:
        return _RECORDS.validate_json(file.read_bytes())
    except FileNotFoundError:
        raise Permanent(f"{file} is missing: the system was delivered before there was one; build it again") from None
    except (OSError, ValidationError) as error:
        raise Permanent(f"{file} cannot be read: restore it from git, or build the system again") from error
