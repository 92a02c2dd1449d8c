"""A finding: something about the data that a person should know, and what was done about it.

Owns the closed lists of kinds and actions and how a finding changes the role of its columns. Leaves finding them to
`audit`, `leaks` and `privacy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlsystem.schema import Role

FindingKind = Literal[
    "id_like",
    "constant",
    "near_duplicate",
    "pii",
    "type_coerced",
    "leak_sum",
    "leak_proxy",
    "leak_late",
    "leak_group",
    "maybe_late",
    "duplicate_rows",
    "split_overlap",
    "imbalance",
    "label_conflict",
    "few_rows",
    "mostly_missing",
    "ambiguous_date",
]
Action = Literal["dropped", "converted", "kept", "asked", "masked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in which columns, what was done, and the sentence for people that says both."""

    kind: FindingKind
    columns: tuple[str, ...]
    action: Action
    text: str
    role: Role | None = None
    """The role that the columns get by it; None leaves them as they are."""

    def as_json(self) -> dict[str, object]:
        """Return the finding as it stands in results."""
        return {"kind": self.kind, "columns": list(self.columns), "action": self.action, "text": self.text}


@dataclass(frozen=True, slots=True)
class RoleOf:
    """A column's role and why it has it."""

    role: Role
    reason: str = ""
    fixed: bool = False
    """Whether the spec says so, so that no finding changes it."""


def apply(findings: Iterable[Finding], roles: Mapping[str, RoleOf]) -> tuple[tuple[Finding, ...], dict[str, RoleOf]]:
    """Return the findings and the roles after them: the first finding wins, and the spec wins over all."""
    told: list[Finding] = []
    after = dict(roles)
    for finding in findings:
        free = tuple(name for name in finding.columns if after[name].role == "feature" and not after[name].fixed)
        if finding.role is None or free:
            told.append(finding)
        elif any(after[name].fixed and after[name].role == "feature" for name in finding.columns):
            text = f"{finding.text} It stays a feature, because system.toml says so."
            told.append(Finding(finding.kind, finding.columns, "kept", text))
        if finding.role is not None:
            after.update({name: RoleOf(finding.role, finding.text) for name in free})
    return _without_overruled(told, after), after


def _without_overruled(told: Sequence[Finding], after: Mapping[str, RoleOf]) -> tuple[Finding, ...]:
    """Leave out that a column is kept, or asked about, where another finding has taken it away."""
    taken = {name for name, role in after.items() if any(role.reason == finding.text for finding in told)}
    return tuple(
        finding for finding in told if finding.action not in {"kept", "asked"} or not taken & {*finding.columns}
    )
