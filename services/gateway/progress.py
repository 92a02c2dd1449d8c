"""The life of a task as it happens: a live view on a terminal, one line an event elsewhere.

`Course` is the pure fold of what a watcher has seen, `rows` what a person is shown of it. The two views only draw.
Left out: where events come from (following.py), what they mean in words (timeline.py).
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, TextIO

from contracts.envelope import TaskEvent
from contracts.events import Progressed, StepRecorded
from contracts.task import TaskState, transition
from services._runtime.publisher import utc_now
from services.gateway.exits import waits_for_person
from services.gateway.result import counted, known
from services.gateway.timeline import duration, progress_text, sentence, step_s

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

Phase = Literal["brief", "clarify", "design", "build", "report", "summary"]
PHASES: Final[tuple[Phase, ...]] = ("brief", "clarify", "design", "build", "report", "summary")
Mark = Literal["ahead", "now", "waiting", "done", "stopped"]

_UNSEEN: Final = frozenset({"working", "released"})
"""Events that say nothing to a person."""
_MARKS: Final[Mapping[Mark, str]] = {"ahead": "·", "now": "▸", "waiting": "?", "done": "✓", "stopped": "✗"}
_STYLES: Final[Mapping[Mark, str]] = {
    "ahead": "dim",
    "now": "bold",
    "waiting": "bold yellow",
    "done": "green",
    "stopped": "red",
}


@dataclass(frozen=True, slots=True)
class Course:
    """What a watcher knows of a task."""

    state: TaskState
    ended: Mapping[Phase, datetime] = field(default_factory=dict[Phase, datetime])
    """When a phase was over."""
    progress: Progressed | None = None
    """The newest word on the step at work, stored or not."""


@dataclass(frozen=True, slots=True)
class Row:
    """A phase or a step as it is shown."""

    name: str
    mark: Mark
    text: str = ""
    seconds: float | None = None
    fraction: float | None = None


def advance(course: Course, event: TaskEvent) -> Course:
    """The course after one more event; one that was seen changes nothing."""
    if event.seq <= course.state.last_seq:
        return course
    state = transition(course.state, event)
    over: dict[Phase, datetime] = {phase: event.metadata.time for phase in _over(state) if phase not in course.ended}
    progress = event.body if isinstance(event.body, Progressed) else course.progress
    if isinstance(event.body, StepRecorded) and progress is not None and progress.step == event.body.name:
        progress = None
    return Course(state, {**over, **course.ended}, progress)


def rows(course: Course, now: datetime) -> tuple[Row, ...]:
    """A row for each phase, with its steps under `build`."""
    found: list[Row] = []
    for phase in PHASES:
        found.append(_phase_row(course, phase, now))
        if phase == "build":
            found.extend(_step_rows(course))
    return tuple(found)


def elapsed_s(course: Course, now: datetime) -> float:
    """Since the submission, up to the end."""
    begun = course.state.submitted_at
    return 0.0 if begun is None else max(0.0, ((course.state.ended_at or now) - begun).total_seconds())


def _over(state: TaskState) -> tuple[Phase, ...]:
    """Phases that lie behind the task."""
    clear = state.briefing is not None and not state.open_questions and (state.asked is not None or bool(state.design))
    approved = state.design is not None and (not state.design.awaits_approval or state.approval is not None)
    behind: Mapping[Phase, bool] = {
        "brief": state.briefing is not None,
        "clarify": clear,
        "design": approved,
        "build": state.delivered is not None,
        "report": state.report is not None,
        "summary": state.summary is not None,
    }
    return tuple(phase for phase in PHASES if behind[phase])


def _current(course: Course) -> Phase | None:
    """The phase at work: the first that is not over. A task that ended has none unless it stopped short."""
    return next((phase for phase in PHASES if phase not in course.ended), None)


def _phase_row(course: Course, phase: Phase, now: datetime) -> Row:
    state = course.state
    if phase in course.ended:
        return Row(phase, "done", _told(state, phase), _took_s(course, phase, course.ended[phase]))
    if phase != _current(course) or state.final_event == "completed":
        return Row(phase, "ahead")
    if state.final is not None:
        return Row(phase, "stopped", state.final.reason, _took_s(course, phase, state.ended_at or now))
    text = _told(state, phase)
    if waits_for_person(state):
        return Row(phase, "waiting", text or "waits for you", None)
    return Row(phase, "now", text or _doing(course, phase), _took_s(course, phase, now))


def _took_s(course: Course, phase: Phase, until: datetime) -> float | None:
    index = PHASES.index(phase)
    since = course.ended.get(PHASES[index - 1]) if index else course.state.submitted_at
    return None if since is None else max(0.0, (until - since) / timedelta(seconds=1))


def _doing(course: Course, phase: Phase) -> str:
    """A step that comes before there is a design is told beside its phase; those of the build have rows."""
    return "" if course.progress is None or phase == "build" else progress_text(course.progress)


def _told(state: TaskState, phase: Phase) -> str:
    """What came of a phase, in a few words."""
    match phase:
        case "brief":
            return counted(len(known(state)), "thing") + " known already" if state.briefing else ""
        case "clarify":
            return _clarified(state)
        case "design":
            return counted(len(state.design.assumptions), "assumption") if state.design else ""
        case "build":
            return _built(state)
        case "report":
            return counted(len(state.report.files_modified), "file") if state.report else ""
        case "summary":
            return state.summary.outcome if state.summary else ""


def _clarified(state: TaskState) -> str:
    if state.asked is None:
        return "nothing to ask" if state.design else ""
    missing = len(state.open_questions)
    asked = len(state.asked.questions)
    return f"{missing} of {counted(asked, 'question')} open" if missing else f"{counted(asked, 'question')} answered"


def _built(state: TaskState) -> str:
    if state.delivered is None:
        return ""
    version = "" if state.delivered.version is None else f" version {state.delivered.version}"
    passed = sum(gate.passed for gate in state.delivered.gates)
    return f"{state.delivered.system}{version}, {passed} of {len(state.delivered.gates)} gates passed"


def _step_rows(course: Course) -> list[Row]:
    """Steps since the design, then the one at work."""
    designed = course.ended.get("design")
    if designed is None:
        return []
    done = [step for step in course.state.steps.values() if step.ended_at >= designed]
    found = [Row(step.name, "done" if step.outcome == "ok" else "stopped", "", step_s(step)) for step in done]
    if course.progress is not None and course.state.delivered is None and course.state.final is None:
        told = course.progress.model_copy(update={"step": "", "fraction": None})
        found.append(Row(course.progress.step, "now", progress_text(told), None, course.progress.fraction))
    return found


class View(Protocol):
    """Shows a task. Used as a context: what it draws ends with it."""

    def seen(self, event: TaskEvent) -> None:
        """An event, in order; one that was seen before is ignored."""
        ...

    def hinted(self, progress: Progressed) -> None:
        """Progress that is not stored."""
        ...

    def __enter__(self) -> Self:
        """Begins to show."""
        ...

    def __exit__(self, *error: object) -> None:
        """Stops showing; what is on the screen stays."""
        ...


@dataclass(slots=True)
class LineView:
    """One line an event, for logs and pipes."""

    stream: TextIO
    course: Course

    def seen(self, event: TaskEvent) -> None:
        """Writes the event unless it says nothing to a person."""
        fresh = event.seq > self.course.state.last_seq
        self.course = advance(self.course, event)
        if fresh and event.event not in _UNSEEN:
            at = elapsed_s(self.course, event.metadata.time)
            self.stream.write(f"{clock(at)} {event.event}: {sentence(event)}\n")
            self.stream.flush()

    def hinted(self, progress: Progressed) -> None:
        """Too fine for lines: the stored progress is enough."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@dataclass(slots=True)
class LiveView:
    """A picture of the whole task that is drawn again as things happen."""

    console: "Console"
    course: Course
    clock: Callable[[], datetime] = utc_now
    _live: "Live | None" = None
    _spinner: "Spinner | None" = None

    def seen(self, event: TaskEvent) -> None:
        """Takes the event into the picture."""
        self.course = advance(self.course, event)

    def hinted(self, progress: Progressed) -> None:
        """Takes progress into the picture."""
        self.course = replace(self.course, progress=progress)

    def __enter__(self) -> Self:
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots", style="bold cyan")
        self._live = Live(get_renderable=self.picture, console=self.console, refresh_per_second=8)
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def picture(self) -> "RenderableType":
        """The task now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = self.clock()
        table = Table.grid(padding=(0, 1))
        for row in rows(self.course, now):
            inner = "" if row.name in PHASES else "  "
            took = "" if row.seconds is None else duration(row.seconds)
            table.add_row(
                self._mark(row), Text(inner + row.name, style=_STYLES[row.mark]), _what(row), Text(took, style="dim")
            )
        title = Text(f"task {self.course.state.task}  {clock(elapsed_s(self.course, now))}", style="bold")
        return Group(title, table)

    def _mark(self, row: Row) -> "RenderableType":
        from rich.text import Text

        if row.mark == "now" and self._live is not None and self._spinner is not None:
            return self._spinner
        return Text(_MARKS[row.mark], style=_STYLES[row.mark])


def _what(row: Row) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    text = Text(row.text, style="dim" if row.mark == "ahead" else "", overflow="ellipsis", no_wrap=True)
    if row.fraction is None:
        return text
    both = Table.grid(padding=(0, 1))
    both.add_row(ProgressBar(total=1.0, completed=row.fraction, width=24), text)
    return both


def clock(seconds: float) -> str:
    """`03:07`, or `1:02:03` above an hour."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def view_of(task: str) -> View:
    """The view that fits stderr."""
    course = Course(TaskState(task))
    if not sys.stderr.isatty():
        return LineView(sys.stderr, course)
    from rich.console import Console

    return LiveView(Console(stderr=True), course)
