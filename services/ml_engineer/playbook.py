"""The playbook: the mind that needs no model. The same understanding always gives the same design.

A mind designs; it never decides that the work is done: gates do. Left out: how the design is built.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from pydantic import JsonValue

from contracts.events import Section
from services._runtime.errors import Permanent
from services.ml_engineer.dossier import Design, system_directory
from services.ml_engineer.engine import Profile
from services.ml_engineer.request import kind_said
from services.ml_engineer.slots import SLOTS_BY_ID, Known
from services.ml_engineer.understanding import Understanding

Spec = dict[str, JsonValue]


class Mind(Protocol):
    """Who designs."""

    def design(self, understanding: Understanding, *, budget_s: float, taken: Mapping[str, str]) -> Design:
        """A design for what was understood. `taken`: existing systems of the workspace, name -> target."""
        ...


@dataclass(frozen=True, slots=True)
class Playbook:
    """Designs by rule."""

    def design(self, understanding: Understanding, *, budget_s: float, taken: Mapping[str, str]) -> Design:
        """See Mind. Raises Permanent for an answer that names a column which is not there."""
        profile = understanding.profile
        if profile is None:
            raise Permanent("the data was not profiled: name the file to learn from")
        target = str(understanding.known["task.target"].value)
        system = system_name(understanding.data[0], target, taken)
        spec = _spec(understanding, profile, system, budget_s)
        assumptions = tuple(_assumption(known) for known in understanding.known.values() if known.origin == "default")
        unmet = ("a forecast with a horizon: rows are predicted one by one, the holdout is the latest part",)
        return Design(
            system=system,
            spec=spec,
            assumptions=assumptions,
            unmet=unmet if kind_said(understanding.request) == "forecast" else (),
            sections=_sections(understanding, profile, system, spec, assumptions),
        )


def system_name(data: str, target: str, taken: Mapping[str, str]) -> str:
    """Named after the data; after data and target where the name stands for another target already."""
    name = _slug(PurePosixPath(data).name.split(".")[0])
    if taken.get(name, target) == target:
        return name
    return _slug(f"{name}-{target}")


def merge(below: Mapping[str, JsonValue], above: Mapping[str, JsonValue]) -> Spec:
    """`above` over `below`, table by table: an owner's own keys survive a second request."""
    merged: Spec = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def without(spec: Mapping[str, JsonValue], key: str) -> Spec:
    """The spec without a dotted key; tables that it leaves empty go too."""
    first, _, rest = key.partition(".")
    value = spec.get(first)
    if rest and isinstance(value, dict):
        left = without(value, rest)
        return {**spec, first: left} if left else {name: kept for name, kept in spec.items() if name != first}
    return {name: kept for name, kept in spec.items() if name != first}


def _spec(understanding: Understanding, profile: Profile, system: str, budget_s: float) -> Spec:
    spec: Spec = {"format": 1, "name": system}
    columns = {column.name for column in profile.columns}
    for known in understanding.known.values():
        for key, value in SLOTS_BY_ID[known.id].effect(known.value).items():
            if _applies(key, known, columns):
                spec = merge(spec, _nested(key, value))
    source: list[JsonValue] = [f"../../{path.lstrip('/')}" for path in understanding.data]
    return merge(spec, {"data": {"source": source}, "search": {"budget": f"{budget_s:g}s"}})


def _applies(key: str, known: Known, columns: set[str]) -> bool:
    """A rule about a column needs that column. Raises Permanent when a person named one that is not there."""
    if not key.startswith("columns."):
        return True
    name = key.removeprefix("columns.")
    if name in columns:
        return True
    if known.origin in {"answer", "request"}:
        raise Permanent(
            f"the answer to {known.id} names {name!r}, which is no column of the data: name existing columns"
        )
    return False


def _nested(key: str, value: JsonValue) -> Spec:
    """`a.b` as {a: {b: value}}; a column's name is one key, dots and all."""
    head, _, rest = key.partition(".")
    if not rest:
        return {head: value}
    return {head: {rest: value} if head == "columns" else _nested(rest, value)}


def _slug(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()).strip("-")
    return (words if words[:1].isalpha() else f"system-{words}")[:40].rstrip("-")


def _assumption(known: Known) -> str:
    return f"{known.id.replace('.', ' ').replace('_', ' ')}: {known.value}"


def _sections(
    understanding: Understanding, profile: Profile, system: str, spec: Spec, assumptions: Sequence[str]
) -> tuple[Section, ...]:
    known = understanding.known
    target, kind = known["task.target"].value, known["task.kind"].value
    told = "\n".join(
        f"- {item.id}: {item.value} ({item.source})" for item in known.values() if item.origin != "default"
    )
    time = f" Time columns: {', '.join(profile.time)}." if profile.time else ""
    objectives = spec.get("objectives") or {}
    return (
        Section(title="Goal", text=str(known["business.goal"].value)),
        Section(title="What is known", text=told),
        Section(
            title="Assumptions", text="\n".join(f"- {text}" for text in assumptions) or "None: everything was said."
        ),
        Section(
            title="Data",
            text=f"{', '.join(understanding.data)}: {profile.rows} rows, {len(profile.columns)} columns."
            f" Target {target} ({kind}).{time} The audit drops identifiers, constants and leaks, and says so.",
        ),
        Section(
            title="Model",
            text="Trivial baselines, a linear model and gradient-boosted trees in a weighted ensemble, calibrated,"
            " compiled with its features into one ONNX graph. A holdout that training never sees decides.",
        ),
        Section(title="Serving", text=f"HTTP on ONNX Runtime; objectives: {objectives or 'none'}."),
        Section(
            title="Gates",
            text="Better than trivial baselines with 95 % confidence, compiled equals native, calibrated, within the"
            " latency objective, the delivered tests green. A failed gate is told as such.",
        ),
        Section(
            title="Rollback and recovery",
            text=f"Versions are numbered in {system_directory(system)}/registry; `rollback` is one command and an"
            " entry in a history that only grows.",
        ),
    )
