"""What a task came to: the JSON object of `run`, `watch`, `answer` and `approve`, and the same in plain words.

Both are pure functions of the fold. Fields that the task has not got to are null or empty, never left out.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from contracts.events import AnswerValue, DesignProposed, Question
from contracts.slots import QUESTION_IDS
from contracts.task import TaskState
from services.gateway.exits import outcome_of

_ANSWERS: Final = 0.5
"""Confidence from which a fact answers a question; below, it is a hint."""


def result_of(state: TaskState, now: datetime) -> dict[str, Any]:
    """The object that scripts read. `now` ends the wall time of a task that is not over."""
    delivered = state.delivered
    found: dict[str, Any] = {
        "task": state.task,
        "state": state.status,
        "outcome": outcome_of(state),
        "request": state.request.request if state.request else "",
        "system": delivered.system if delivered else None,
        "system_dir": str(system_dir(state)) if delivered else None,
        "version": delivered.version if delivered else None,
        "metrics": (delivered.metrics if delivered else None) or {},
        "gates": [_gate(gate) for gate in delivered.gates] if delivered else [],
        "findings": (delivered.findings if delivered else None) or [],
        "known": list(known(state)),
        "questions": [_question(question, state.answers) for question in asked(state)],
        "assumptions": list(state.design.assumptions) if state.design else [],
        "summary": state.summary.text if state.summary else "",
        "files_modified": list(state.report.files_modified) if state.report else [],
        "trace_id": state.trace_id,
        "wall_s": round(wall_s(state, now), 3),
    }
    reason = reason_of(state)
    return {**found, "reason": reason} if reason else found


def told(state: TaskState) -> str:
    """How the task stands, in plain words: the summary where there is one, else what it waits for or why it ended."""
    if state.final is not None:
        return state.summary.text if state.summary else f"{state.status}: {state.final.reason}"
    return reason_of(state) or f"task {state.task} is at work"


def reason_of(state: TaskState) -> str:
    """What a person needs to know of a task that did not simply succeed."""
    if state.final is not None:
        return "" if state.final.outcome == "success" else state.final.reason
    if outcome_of(state) != "waiting":
        return ""
    if state.waiting == "approval":
        return f"the design waits for approval: mlmesh approve {state.task}"
    ids = [question.id for question in state.open_questions]
    some = " ".join(f"{name}=..." for name in ids[:3])
    return f"{counted(len(ids), 'question')} to answer: mlmesh answer {state.task} {some}"


def known(state: TaskState) -> tuple[str, ...]:
    """What the workspace already says: as acknowledged with the questions, else the facts of the briefing."""
    if state.asked is not None:
        return state.asked.known
    facts = state.briefing.briefing.facts if state.briefing else ()
    answers = [fact for fact in facts if fact.confidence >= _ANSWERS and f"{fact.slot}.{fact.field}" in QUESTION_IDS]
    return tuple(f"{fact.slot}.{fact.field} = {fact.value} ({fact.source})" for fact in answers)


def asked(state: TaskState) -> tuple[Question, ...]:
    """The questions that were asked last."""
    return state.asked.questions if state.asked else ()


def system_dir(state: TaskState) -> Path:
    """The delivered system on this machine."""
    rooted = state.delivered.system_dir if state.delivered else ""
    return workspace_dir(state) / rooted.lstrip("/")


def workspace_dir(state: TaskState) -> Path:
    """The directory that the task's paths are rooted at."""
    parts = urlsplit(state.workspace)
    return Path(unquote(parts.path) if parts.scheme == "file" else state.workspace)


def wall_s(state: TaskState, now: datetime) -> float:
    """From submission to the end, or to `now`."""
    if state.submitted_at is None:
        return 0.0
    return max(0.0, ((state.ended_at or now) - state.submitted_at).total_seconds())


def waiting_text(state: TaskState) -> str:
    """What a waiting task wants from a person, whole."""
    if state.waiting == "approval" and state.design is not None:
        return design_text(state.design)
    lines = [f"Known: {text}" for text in known(state)]
    lines += [part for question in state.open_questions for part in ("", question_text(question))]
    return "\n".join(lines)


def question_text(question: Question) -> str:
    """A question with why it is asked, what led to it, and what is assumed without an answer."""
    default = "" if question.default is None else f"\n    default: {spelled(question.default)}"
    evidence = "".join(f"\n    seen: {text}" for text in question.evidence)
    return f"{question.id}: {question.text}\n    why: {question.why}{evidence}{default}"


def design_text(design: DesignProposed) -> str:
    """The design document."""
    return "\n\n".join(f"## {section.title}\n\n{section.text}" for section in design.sections)


def spelled(value: AnswerValue) -> str:
    """An answer as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def counted(number: int, noun: str) -> str:
    """`1 question`, `2 questions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _question(question: Question, answers: Mapping[str, AnswerValue]) -> dict[str, Any]:
    return {
        "id": question.id,
        "text": question.text,
        "evidence": list(question.evidence),
        "default": question.default,
        "answer": answers.get(question.id),
    }


def _gate(gate: BaseModel) -> dict[str, Any]:
    return gate.model_dump(mode="json", include={"name", "value", "threshold", "passed"})
