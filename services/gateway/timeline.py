"""The events of a task in words: one sentence each, for the plain progress view and for `show`.

Pure. Left out: reading the journal (requests.py), drawing (progress.py, commands/show.py).
"""

from contracts.briefing import Briefing
from contracts.envelope import TaskEvent
from contracts.events import (
    Approved,
    Canceled,
    CancelRequested,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Progressed,
    QuestionsAnswered,
    QuestionsAsked,
    Redriven,
    Released,
    StepRecorded,
    TaskSubmitted,
    TimedOut,
    Working,
)
from contracts.report import ActivityReport
from contracts.summary import Summary
from services.gateway.result import counted, spelled

_LONGEST = 160


def sentence(event: TaskEvent) -> str:  # noqa: C901, PLR0911, PLR0912 - one row for each event
    """What an event says, in one line."""
    match event.body:
        case None:
            return f"cannot be read: {event.problem}"
        case TaskSubmitted(request=request):
            return _short(request)
        case Working(executor=executor):
            return f"taken up by {executor}"
        case Released(reason=reason):
            return reason
        case Briefing(briefing=briefing):
            facts, files = counted(len(briefing.facts), "fact"), counted(len(briefing.relevant_paths), "file")
            return f"{facts} from {files}: {_short(briefing.summary)}"
        case QuestionsAsked(questions=questions):
            return "asks for " + ", ".join(question.id for question in questions)
        case QuestionsAnswered(answers=answers):
            return ", ".join(f"{answer.question_id} = {spelled(answer.value)}" for answer in answers)
        case DesignProposed() as design:
            return _design(design)
        case Approved(approve=approve, comment=comment):
            return ("design approved" if approve else "design refused") + (f": {comment}" if comment else "")
        case StepRecorded() as step:
            return f"{step.name} {step.outcome} in {duration(step_s(step))}"
        case Progressed() as progress:
            return progress_text(progress)
        case Delivered() as delivered:
            return _delivered(delivered)
        case ActivityReport() as report:
            return f"{report.status}, {counted(len(report.files_modified), 'file')}: {_short(report.summary)}"
        case Summary(outcome=outcome):
            return f"summary for people: {outcome}"
        case TimedOut(timer=timer):
            return f"the timer {timer!r} is due"
        case CancelRequested(reason=reason):
            return reason or "asked to stop"
        case Redriven(reason=reason):
            return reason or "rung again"
        case Completed() | Failed() | Canceled() as final:
            return f"{final.outcome}: {_short(final.reason)}" if final.reason else final.outcome
        case _:
            return event.event


def progress_text(progress: Progressed) -> str:
    """Where a step is, with its numbers."""
    share = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in progress.metrics.items())
    return " ".join(part for part in (progress.step, share, progress.message, numbers) if part)


def step_s(step: StepRecorded) -> float:
    """How long a step took, seconds."""
    return max(0.0, (step.ended_at - step.started_at).total_seconds())


def duration(seconds: float) -> str:
    """`0.4 s`, `1 min 05 s`, `2 h 03 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _design(design: DesignProposed) -> str:
    waits = "waits for approval" if design.awaits_approval else "decided"
    assumed = f", {counted(len(design.assumptions), 'assumption')}" if design.assumptions else ""
    return f"{counted(len(design.sections), 'section')}, {waits}{assumed}"


def _delivered(delivered: Delivered) -> str:
    version = "" if delivered.version is None else f" version {delivered.version}"
    passed = sum(gate.passed for gate in delivered.gates)
    return f"{delivered.system}{version} in {delivered.system_dir}: {passed} of {len(delivered.gates)} gates passed"


def _short(text: str) -> str:
    """The first line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
