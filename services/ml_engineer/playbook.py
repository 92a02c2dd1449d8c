"""The playbook: the mind that needs no model. The same understanding always gives the same design.

A mind designs; it never decides that the work is done: gates do. Left out: how the design is built.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Protocol

from pydantic import JsonValue

from contracts.events import Section
from services._runtime.errors import Permanent
from services._runtime.systems import system_directory
from services.ml_engineer.dossier import Design
from services.ml_engineer.engine import Profile
from services.ml_engineer.request import nearest, same
from services.ml_engineer.slots import SLOTS_BY_ID, Known, effects
from services.ml_engineer.understanding import Understanding

Spec = dict[str, JsonValue]

_LONGEST_NAME: Final = 40
_COLUMN_RULE: Final = "columns."
_TOLD_ONLY: Final = frozenset({"data.freshness", "data.read_write", "nfr.consistency"})
"""Slots of which a document tells how things are, which asks nothing of the system: only a person's answer does."""
_COLUMN_KEYS: Final = frozenset({"data.time", "data.entity"})
"""Keys whose value is the name of a column."""
_SHOWN_COLUMNS: Final = 30


@dataclass(frozen=True, slots=True)
class Budget:
    """Wall time of the search for a model, seconds."""

    usual_s: float
    """Where neither the asker nor the owner's system.toml says another."""
    asked_s: float | None = None


class Mind(Protocol):
    """Who designs."""

    def design(self, understanding: Understanding, *, budget: Budget, existing: Mapping[str, Spec]) -> Design:
        """A design for what was understood. `existing`: systems of the workspace, name -> spec."""
        ...


@dataclass(frozen=True, slots=True)
class Playbook:
    """Designs by rule."""

    def design(self, understanding: Understanding, *, budget: Budget, existing: Mapping[str, Spec]) -> Design:
        """See Mind. Raises Permanent for an answer that names a column which is not there."""
        profile = understanding.profile
        if profile is None:
            raise Permanent("the data was not profiled: name the file to learn from")
        target = str(understanding.known["task.target"].value)
        system = _named(understanding) or system_name(understanding.data[0], target, existing)
        spec = _spec(understanding, profile, system, budget, existing.get(system, {}))
        assumptions = _assumptions(understanding, existing.get(system, {}))
        unmet = ("a forecast with a horizon: rows are predicted one by one, the holdout is the latest part",)
        return Design(
            system=system,
            spec=spec,
            assumptions=assumptions,
            unmet=unmet if understanding.forecast else (),
            sections=_sections(understanding, profile, system, spec, assumptions),
        )


def _named(understanding: Understanding) -> str:
    """The name that somebody gave the system; empty where it is named after its data."""
    named = understanding.known.get("task.system")
    return "" if named is None else str(SLOTS_BY_ID["task.system"].effect(named.value)["name"])


def system_name(data: str, target: str, existing: Mapping[str, Spec]) -> str:
    """Named after the data; where that name stands for another target, after both, at last with a number."""
    name = slug(PurePosixPath(data).name.split(".")[0])
    asked = slug(target, lead="")
    whole = f"{name}-{asked}".rstrip("-")
    both = whole if len(whole) <= _LONGEST_NAME else f"{name[:18].rstrip('-')}-{asked[:20]}".rstrip("-")
    numbered = (f"{both[:36].rstrip('-')}-{number}" for number in itertools.count(2))
    return next(
        found
        for found in itertools.chain((name, both), numbered)
        if found not in existing or target_of(existing[found]) == target
    )


def target_of(spec: Mapping[str, JsonValue]) -> str:
    """The target that a spec names; empty without one."""
    task = spec.get("task")
    return str(task.get("target", "")) if isinstance(task, dict) else ""


def merge(below: Mapping[str, JsonValue], above: Mapping[str, JsonValue]) -> Spec:
    """`above` over `below`, table by table: an owner's own keys survive a second request."""
    merged: Spec = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def without(spec: Mapping[str, JsonValue], key: str) -> Spec:
    """The spec without a dotted key; tables that it leaves empty go too. Names in the spec may hold dots."""
    kept: Spec = {}
    for name, value in spec.items():
        if key == name:
            continue
        if key.startswith(f"{name}.") and isinstance(value, dict):
            left = without(value, key.removeprefix(f"{name}."))
            kept |= {name: left} if left else {}
        else:
            kept[name] = value
    return kept


def _spec(
    understanding: Understanding, profile: Profile, system: str, budget: Budget, owners: Mapping[str, JsonValue]
) -> Spec:
    """What was said, laid over what the owner's system.toml says, laid over what was assumed."""
    target = str(understanding.known["task.target"].value)
    assumed: Spec = {"format": 1, "name": system, "search": {"budget": _seconds(budget.usual_s)}}
    said: Spec = {}
    for known, key, value in effects(understanding.known):
        fitted = _fitted(known, key, value, profile)
        if fitted is None or fitted[0] == f"columns.{target}":  # a target is no feature, whatever is said of it
            continue
        if known.origin == "default" and known.id != "task.target":
            assumed = merge(assumed, nested(*fitted))
        else:
            said = merge(said, nested(*fitted))
    source: list[JsonValue] = [f"../../{path.lstrip('/')}" for path in understanding.data]
    asked: Spec = {} if budget.asked_s is None else {"search": {"budget": _seconds(budget.asked_s)}}
    data: Spec = {"data": {"source": source}} if source else {}
    given: Spec = {"format": 1, "name": system, **data}
    return merge(merge(merge(assumed, owners), merge(merge(said, _own(understanding, profile, target)), given)), asked)


def _own(understanding: Understanding, profile: Profile, target: str) -> Spec:
    """What serving somebody's own model sets: the file, and which columns it has no use for."""
    if not understanding.model:
        return {}
    spec: Spec = {"search": {"model": f"../../{understanding.model.lstrip('/')}"}}
    if profile.model is None:
        return spec
    unused = [name for name in _columns(profile) if name != target and name not in profile.model.takes]
    return {**spec, "columns": {name: {"role": "ignore", "why": "the model does not take it"} for name in unused}}


def _fitted(known: Known, key: str, value: JsonValue, profile: Profile) -> tuple[str, JsonValue] | None:
    """Key and value with columns spelled as the data spell them; None for what the workspace only tells.

    Raises: Permanent when a person named a column that is not there, with the nearest names.
    """
    if known.origin == "workspace" and known.id in _TOLD_ONLY:
        return None
    names_column = key in _COLUMN_KEYS
    if not names_column and not key.startswith(_COLUMN_RULE):
        return key, value
    name, columns = str(value) if names_column else key.removeprefix(_COLUMN_RULE), _columns(profile)
    fitting = same(name, columns)
    if len(fitting) == 1:
        return (key, fitting[0]) if names_column else (f"{_COLUMN_RULE}{fitting[0]}", value)
    if known.origin == "workspace":
        return None
    close = nearest(name, columns) or columns[:_SHOWN_COLUMNS]
    raise Permanent(
        f"the answer to {known.id} names {name!r}, which is no column of the data: there are {', '.join(close)}."
        " Submit the request again with existing columns."
    )


def _columns(profile: Profile) -> tuple[str, ...]:
    return tuple(column.name for column in profile.columns)


def _assumptions(understanding: Understanding, owners: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Defaults that nobody confirmed, but for those that the owner's system.toml decides otherwise."""
    decided = {known.id for known, key, _ in effects(understanding.known) if _has(owners, key)}
    return tuple(
        _assumption(known)
        for known in understanding.known.values()
        if known.origin == "default" and (known.id not in decided or known.id == "task.target")
    )


def _has(spec: JsonValue | Mapping[str, JsonValue], key: str) -> bool:
    first, _, rest = key.partition(".")
    return isinstance(spec, Mapping) and first in spec and (not rest or _has(spec[first], rest))


def _seconds(amount: float) -> str:
    return f"{amount:.10g}s"


def nested(key: str, value: JsonValue) -> Spec:
    """`a.b` as {a: {b: value}}; a column's name is one key, dots and all."""
    head, _, rest = key.partition(".")
    if not rest:
        return {head: value}
    return {head: {rest: value} if head == "columns" else nested(rest, value)}


def slug(text: str, *, lead: str = "system-") -> str:
    """Lower-case words with dashes, at most 40 characters; `lead` stands before what does not begin with a letter."""
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()).strip("-")
    return (words if words[:1].isalpha() else f"{lead}{words}")[:_LONGEST_NAME].strip("-")


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
            text=f"{', '.join(understanding.data) or 'as before'}: {profile.rows} rows, {len(profile.columns)} columns."
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
