"""The summarizer's one verb: a reported task becomes a Summary that people can read and trust.

Owns the choice between a writer's prose and the template. Prose is shown only when every check passes; whatever
goes wrong with a writer, the person still gets a summary.
"""

from collections.abc import Sequence
from pathlib import Path

import structlog

from contracts.envelope import TaskEvent
from contracts.summary import Claim, Summary
from contracts.task import TaskState
from services._runtime.errors import MeshError
from services._runtime.llm import Writer
from services.summarizer.checks import problems, sources
from services.summarizer.claims import outcome_of, statements
from services.summarizer.prose import SYSTEM, Prose, prompt
from services.summarizer.template import told

_log = structlog.get_logger()


async def summarise(
    state: TaskState, history: Sequence[TaskEvent], *, workspace: Path, writer: Writer | None = None
) -> Summary:
    """The summary of a task that was reported.

    `history` is the task's journal in order; `workspace` the directory that paths are rooted at. Without a
    writer, or when its prose fails or does not pass the checks, the text is the template's.
    """
    found = statements(state, history)
    text, claims = told(found)
    if writer is not None:
        every = tuple(statement.claim for statement in found)
        prose = await _written(state, history, workspace=workspace, claims=every, writer=writer)
        if prose:
            text, claims = prose, every
    return Summary(text=text, claims=claims, outcome=outcome_of(state))


async def _written(
    state: TaskState, history: Sequence[TaskEvent], *, workspace: Path, claims: Sequence[Claim], writer: Writer
) -> str:
    """A writer's prose that passes every check, else an empty text."""
    outcome = outcome_of(state)
    try:
        answer = await writer.write(system=SYSTEM, prompt=prompt(outcome, claims), output=Prose)
    except MeshError as error:
        _log.warning("summarizer.prose_failed", error=type(error).__name__, reason=str(error))
        return ""
    text = answer.text.strip()
    wrong = problems(text, sources(state, history, workspace=workspace))
    if wrong:
        _log.warning("summarizer.prose_refused", problems=wrong)
        return ""
    return text
