"""What an engagement has understood before it designs: pure, from request, briefing, answers and the data's profile.

Decides which questions are left. A field that the request, the workspace or an answer fills is never asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from contracts.briefing import Fact
from contracts.events import AnswerValue, Question
from services._runtime.errors import Permanent
from services._runtime.systems import system_directory
from services.ml_engineer.engine import Candidate, Profile
from services.ml_engineer.request import Reading, alternatives_in, hinted_in, kind_said, nearest, read, same, targets_in
from services.ml_engineer.slots import CERTAIN, SLOT_LIST, SLOTS_BY_ID, Known, Slot

_CLEAR_SCORE: Final = 0.5
_CLEAR_LEAD: Final = 0.15
_SHOWN_COLUMNS: Final = 30
_NUMERIC: Final = frozenset({"number", "integer"})
_MOST_CLASSES: Final = 100
"""Different values of a category that the engine can tell apart as a target."""
_EXACT: Final = frozenset({"binary", "multiclass"})
"""Kinds that need no look at the data; the engine refuses them where they do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What is known of a request."""

    request: str
    reading: Reading
    known: Mapping[str, Known]
    facts: tuple[Fact, ...]
    data: tuple[str, ...] = ()
    """Paths of the data, `/`-rooted at the workspace; empty: not known yet."""
    profile: Profile | None = None
    model: str = ""
    """Path of the ONNX file that is to be served, `/`-rooted; empty: a model is to be trained."""
    forecast: bool = False
    """Whether a forecast was asked for: rows are predicted one by one instead, and that is told."""
    questions: tuple[Question, ...] = ()
    """What is missing, with defaults where one can be taken."""

    @classmethod
    def of_question(cls, request: str, question: Question) -> "Understanding":
        """All that is known is that this has to be asked."""
        return cls(request=request, reading=read(request), known={}, facts=(), questions=(question,))

    @property
    def must_wait(self) -> bool:
        """True when something is missing that no default can fill."""
        return any(question.default is None for question in self.questions)


def with_target(understanding: Understanding, profile: Profile) -> Understanding:
    """The understanding with the data's profile: the target and its kind are known, or asked."""
    columns = [column.name for column in profile.columns]
    found = replace(understanding, profile=profile)
    told = found.known.get("task.target")
    if told is not None and told.origin == "answer":
        return _with_kind(found, profile, replace(told, value=_column(str(told.value), columns)))
    meant = _meant(found.request, columns, profile)
    if len(meant) == 1:
        return _with_kind(found, profile, Known("task.target", meant[0], "request", "the request"))
    if not meant and (stated := _stated_target(found.facts, columns)) is not None:
        return _with_kind(found, profile, stated)
    known = {slot: value for slot, value in found.known.items() if slot != "task.target"}
    questions = (*found.questions, _target_question(found, profile, meant))
    return replace(found, known=known, questions=questions)


def with_standing(understanding: Understanding, spec: Mapping[str, JsonValue], system: str) -> Understanding:
    """The understanding of a system that stands: its own spec says what is predicted, and nothing is asked anew."""
    task = spec.get("task")
    standing: Mapping[str, JsonValue] = task if isinstance(task, dict) else {}
    source = f"/{system_directory(system)}/system.toml"
    told = {
        "task.system": Known("task.system", system, "request", "the request"),
        "task.target": Known("task.target", str(standing.get("target", "")), "workspace", source),
        "task.kind": Known("task.kind", str(standing.get("kind", "")), "workspace", source),
    }
    answered = {slot: known for slot, known in understanding.known.items() if known.origin in {"answer", "request"}}
    goal = spec.get("goal")
    kept = {"business.goal": Known("business.goal", str(goal), "workspace", source)} if goal else {}
    return replace(understanding, known={**answered, **kept, **told})


def with_missing(understanding: Understanding) -> Understanding:
    """The understanding with a question for each slot that is still open."""
    asked = {question.id for question in understanding.questions}
    left = tuple(
        _unusable(slot, said)
        if (said := understanding.reading.slots.get(slot.id))
        else slot.question(_evidence(slot, understanding.facts))
        for slot in SLOT_LIST
        if slot.asked and slot.id not in understanding.known and slot.id not in asked and slot.default is not None
    )
    return replace(understanding, questions=(*understanding.questions, *left))


def with_defaults(understanding: Understanding) -> Understanding:
    """The understanding after every question that has a default was given it; only the others are left."""
    taken = {
        question.id: Known(question.id, question.default, "default", "nobody said otherwise")
        for question in understanding.questions
        if question.default is not None
    }
    left = tuple(question for question in understanding.questions if question.default is None)
    known = {**understanding.known, **taken}
    found = replace(understanding, known=known, questions=left)
    target = taken.get("task.target")
    return _with_kind(found, found.profile, target) if target is not None and found.profile is not None else found


def acknowledged(understanding: Understanding) -> tuple[str, ...]:
    """What is known already, in words with sources: told before anything is asked."""
    told = [
        f"{known.id.replace('.', ' ')}: {_shown(known.value)} ({known.source})"
        for known in understanding.known.values()
        if known.id != "business.goal"
    ]
    stack = [f"{fact.field}: {fact.value} ({fact.source})" for fact in understanding.facts if fact.slot == "stack"]
    profile = understanding.profile
    data = (
        [f"data: {', '.join(understanding.data)}, {profile.rows} rows, {len(profile.columns)} columns"]
        if profile
        else []
    )
    return (*data, *told, *stack[:6])


def _stated_target(facts: Sequence[Fact], columns: Sequence[str]) -> Known | None:
    """The surest target that the workspace states and the data have."""
    for fact in sorted(facts, key=lambda fact: -fact.confidence):
        fitting = same(fact.value, columns) if (fact.slot, fact.field) == ("task", "target") else ()
        if len(fitting) == 1 and fact.confidence >= CERTAIN:
            return Known("task.target", fitting[0], "workspace", fact.source)
    return None


def _meant(request: str, columns: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """Columns that the request means; a mere hint counts where nothing else is clearly the target."""
    naming = _naming(profile)
    if found := alternatives_in(request, columns) or _plausible(targets_in(request, columns, naming), profile):
        return found
    hinted = hinted_in(request, [name for name in columns if name not in naming])
    rivalled = _is_clear(profile.candidates) and profile.candidates[0].target not in hinted
    return () if rivalled else _plausible(hinted, profile)


def _naming(profile: Profile) -> frozenset[str]:
    """Columns that name rows or whom they are about: nothing that could be learnt."""
    named = {name for problem in profile.problems if problem.code == "id_like" for name in problem.columns}
    many = {found.name for found in profile.columns if found.type not in _NUMERIC and found.distinct > _MOST_CLASSES}
    return frozenset({*profile.entity, *named, *many})


def _plausible(meant: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """Of several columns that the request may mean, those that could be a target at all."""
    could_be = {found.target for found in profile.candidates if found.score >= _CLEAR_SCORE}
    likely = tuple(name for name in meant if name in could_be)
    return likely if len(meant) > 1 and likely else tuple(meant)


def _with_kind(understanding: Understanding, profile: Profile, target: Known) -> Understanding:
    """The target's kind as somebody said it, where the data allow it; else as the data suggest it."""
    said = understanding.known.get("task.kind")
    words = str(said.value).strip().lower() if said else kind_said(understanding.request)
    kind = words if words in _EXACT else _kind(words, profile, str(target.value))
    found = said if said and words == kind else Known("task.kind", kind, "workspace", "the data")
    known = {**understanding.known, "task.target": target, "task.kind": found}
    return replace(understanding, known=known, forecast=words == "forecast" and kind == "regression")


def _kind(words: str, profile: Profile, target: str) -> str:
    """What `classification`, `regression`, `forecast` or nothing mean for a column. Raises Permanent for a constant."""
    candidate = next((found for found in profile.candidates if found.target == target), None)
    column = next(found for found in profile.columns if found.name == target)
    if column.distinct < 2:
        raise Permanent(
            f"the target {target!r} has the same value in all rows, so there is nothing to tell apart: give rows with"
            f" other outcomes too, or name another target"
        )
    seen = candidate.kind if candidate else _kind_of_values(column.type, column.distinct)
    if words in {"regression", "forecast"} and column.type in _NUMERIC:
        return "regression"
    if words == "classification" and seen == "regression":
        return "binary" if column.distinct == 2 else "multiclass"
    return seen


def _kind_of_values(column_type: str, distinct: int) -> str:
    if distinct == 2:
        return "binary"
    return "regression" if column_type in _NUMERIC else "multiclass"


def _column(name: str, columns: Sequence[str]) -> str:
    """The column that an answer means. Raises Permanent with the nearest names when there is none."""
    fitting = same(name, columns)
    if len(fitting) == 1:
        return fitting[0]
    close = nearest(name, columns)
    hint = f"the nearest are {', '.join(close)}" if close else f"it has {', '.join(columns[:_SHOWN_COLUMNS])}"
    raise Permanent(f"the data has no column {name!r} to predict: {hint}. Submit again with one of them.")


def _target_question(understanding: Understanding, profile: Profile, meant: Sequence[str]) -> Question:
    columns = [column.name for column in profile.columns]
    slot, candidates = SLOTS_BY_ID["task.target"], profile.candidates
    absent = [name for name in understanding.reading.named if name.lower() not in {c.lower() for c in columns}]
    if len(meant) > 1:
        evidence = (f"the request may mean {', '.join(meant)}",)
        return slot.question(evidence)
    if absent:
        close = nearest(absent[0], columns)
        hint = f"nearest: {', '.join(close)}" if close else f"columns: {', '.join(columns[:_SHOWN_COLUMNS])}"
        return slot.question((f"the data has no column {absent[0]!r}; {hint}",))
    evidence = tuple(f"{found.target}: {found.kind}, {found.why}" for found in candidates[:3])
    if _is_clear(candidates):
        question = slot.question(evidence)
        return question.model_copy(update={"default": candidates[0].target})
    return slot.question(evidence or (f"columns: {', '.join(columns[:_SHOWN_COLUMNS])}",))


def _is_clear(candidates: Sequence[Candidate]) -> bool:
    if not candidates or candidates[0].score < _CLEAR_SCORE:
        return False
    return len(candidates) == 1 or candidates[0].score - candidates[1].score >= _CLEAR_LEAD


def _unusable(slot: Slot, said: AnswerValue) -> Question:
    """The question for what the request says in a way that nothing can be built from: no default replaces a wish."""
    question = slot.question((f"the request says {_shown(said)}, which cannot be met",))
    return question.model_copy(update={"default": None})


def _evidence(slot: Slot, facts: Sequence[Fact]) -> tuple[str, ...]:
    """Passing mentions that were not certain enough to fill the slot."""
    return tuple(f"{fact.value} ({fact.source})" for fact in facts if f"{fact.slot}.{fact.field}" == slot.id)[:3]


def _shown(value: AnswerValue) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
