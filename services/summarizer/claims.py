"""What can be said of a task, statement by statement, each with the messages and files that support it.

Owns the step from journal to claims: pure, from the fold and the history alone. It says what was recorded and
nothing else; how much of it people read, and in which order, is decided in `template`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal, cast

from contracts.envelope import TaskEvent
from contracts.events import Answer, Gate, QuestionsAnswered, StepRecorded, TaskSubmitted
from contracts.message import Message
from contracts.summary import Claim, Outcome
from contracts.task import TaskState
from services._runtime.redaction import redact

Topic = Literal[
    "outcome", "request", "quality", "latency", "gates", "unmet", "findings", "known", "answered", "assumed", "place",
    "next",
]  # fmt: skip

_LEADING_METRICS: Final = ("roc_auc", "mase", "mae", "rmse", "log_loss", "accuracy", "f1_macro", "r2")
_METRIC_WORDS: Final = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "f1_macro": "macro F1",
    "mae": "the mean absolute error",
    "rmse": "the root mean squared error",
    "mase": "the scaled error (MASE)",
    "r2": "R2",
}
_GATE_WORDS: Final = {
    "beats_trivial": "gain over guessing",
    "parity": "equality of the trained and the served model",
    "ece": "calibration",
    "latency_ms_p99": "latency",
    "model_mb": "size",
    "contract": "answers of the server",
    "delivered_tests": "its own tests",
    "recovery": "recovery from failures",
}
_FACTS_TOLD: Final = 4
_LONGEST_QUOTE: Final = 160
"""Characters of somebody else's words that one statement repeats."""
_LONGEST_LINE: Final = 600
_MOST_LINES: Final = 20
"""Of a report that is the answer itself."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim and what it is about. `failing`: it tells of something that is missing or does not hold."""

    topic: Topic
    claim: Claim
    failing: bool = False


def claims(state: TaskState, history: Sequence[TaskEvent]) -> tuple[Claim, ...]:
    """Everything that can be said of the task, most important first; refs are message ids and `/`-rooted paths."""
    return tuple(statement.claim for statement in statements(state, history))


def statements(state: TaskState, history: Sequence[TaskEvent]) -> tuple[Statement, ...]:
    """The claims with their topics."""
    journal = _Journal(history)
    tellers = (
        _outcome,
        _unchanged,
        _quality,
        _latency,
        _gates,
        _unmet,
        _place,
        _next,
        _assumed,
        _findings,
        _answered,
        _known,
        _request,
    )
    return tuple(statement for teller in tellers for statement in teller(state, journal))


def outcome_of(state: TaskState) -> Outcome:
    """How the task ended for the person who asked: the report decides; without one there is no success."""
    if state.final is not None:
        return state.final.outcome
    return state.report.status if state.report is not None else "failed"


def system_title(state: TaskState) -> str:
    """`telco-churn version 1`, or an empty text when nothing was delivered."""
    if state.delivered is None:
        return ""
    version = state.delivered.version
    return state.delivered.system if version is None else f"{state.delivered.system} version {version}"


def sentence(text: str, *, longest: int = _LONGEST_QUOTE) -> str:
    """One line without secrets, cut at a word, that ends with a full stop."""
    line = shortened(text, longest=longest)
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."


def told_in_lines(text: str) -> str:
    """Somebody else's words line by line, without secrets, a list as it was listed."""
    lines = [redact(line) for line in text.splitlines()]
    shown = lines[:_MOST_LINES] + ["…"] * (len(lines) > _MOST_LINES)
    return "\n".join(shortened(line, longest=_LONGEST_LINE) for line in shown)


def shortened(text: str, *, longest: int = _LONGEST_QUOTE) -> str:
    """One line without secrets, cut at a word."""
    line = redact(" ".join(text.split()))
    if len(line) <= longest:
        return line
    return line[:longest].rsplit(" ", 1)[0].rstrip(",;:") + " …"


class _Journal:
    """Message ids by event, newest last."""

    def __init__(self, history: Sequence[TaskEvent]) -> None:
        self._history = [event for event in history if event.body is not None]

    def last(self, *events: str) -> tuple[str, ...]:
        """The id of the newest message of each of these events that was written."""
        newest = {event.event: event.metadata.id for event in self._history}
        return tuple(newest[event] for event in events if event in newest)

    def step(self, name: str) -> tuple[str, ...]:
        """The id of the newest record of a step."""
        ids = [e.metadata.id for e in self._history if isinstance(e.body, StepRecorded) and e.body.name == name]
        return tuple(ids[-1:])

    def answer(self, question: str) -> tuple[str, ...]:
        """The id of the newest message that answers this question, the request included."""
        ids = [e.metadata.id for e in self._history if any(a.question_id == question for a in _answers(e.body))]
        return tuple(ids[-1:])

    def submitted(self) -> tuple[str, ...]:
        """The id of the request."""
        return tuple(e.metadata.id for e in self._history if e.event == "submitted")[:1]


def _answers(body: Message | None) -> tuple[Answer, ...]:
    return body.answers if isinstance(body, TaskSubmitted | QuestionsAnswered) else ()


def _says(topic: Topic, text: str, refs: Sequence[str], *, failing: bool = False) -> Statement:
    return Statement(topic, Claim(text=text, refs=tuple(dict.fromkeys(refs))), failing)


def _outcome(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    refs = journal.last("delivered", "reported", "failed", "canceled")
    outcome, title = outcome_of(state), system_title(state)
    report = state.report.summary if state.report is not None else ""
    if outcome == "success" and _on_existing(state):
        yield _says("outcome", told_in_lines(report), refs)
    elif outcome == "success":
        ready = f"{title} is ready{_purpose(state)}." if title else sentence(report or "The request was carried out")
        yield _says("outcome", ready, refs)
    elif outcome == "partial":
        built = f"{title} is built{_purpose(state)}, but part of what was asked for is missing." if title else ""
        yield _says("outcome", built or f"Part of the work is missing. {sentence(report)}", refs, failing=True)
    elif outcome == "canceled":
        yield _says("outcome", "The task was stopped before it was finished.", refs, failing=True)
    else:
        yield _says("outcome", _failure(state, title, report), (*refs, *_failed_step(state, journal)), failing=True)


def _unchanged(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    """A package with the digest of an older one makes no new version."""
    if state.delivered is not None and _packaged(state).get("created") is False:
        text = f"Nothing that the model depends on has changed: version {state.delivered.version} stands."
        yield _says("outcome", text, journal.step("package"))


def _packaged(state: TaskState) -> dict[str, Any]:
    step = state.steps.get("package")
    return _mapping(step.result) if step is not None else {}


def _failure(state: TaskState, title: str, report: str) -> str:
    reason = state.final.reason if state.final is not None else report
    told = sentence(reason or "No reason was recorded", longest=2 * _LONGEST_QUOTE)
    if title and not _on_existing(state):
        return f"{title} did not pass its checks and should not be used. {told}"
    return f"The request could not be carried out. {told}"


def _failed_step(state: TaskState, journal: _Journal) -> tuple[str, ...]:
    return tuple(ref for step in state.steps.values() if step.outcome == "failed" for ref in journal.step(step.name))


def _on_existing(state: TaskState) -> bool:
    """Whether something was done with a system that stood already: the report says all that there is to say."""
    return state.delivered is not None and state.design is None


def _purpose(state: TaskState) -> str:
    """` and predicts Churn`, from the spec that was designed."""
    spec = _mapping(state.design.spec) if state.design is not None else {}
    target = _mapping(spec.get("task")).get("target")
    return f" and predicts {target}" if isinstance(target, str) and target else ""


def _request(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    if state.request is not None:
        yield _says("request", f"The request was: “{shortened(state.request.request)}”", journal.submitted())


def _judged_on(state: TaskState) -> str:
    """On which rows the numbers were measured: of a file that was brought along nobody knows what it has seen."""
    spec = _mapping(state.design.spec) if state.design is not None else {}
    own = bool(_mapping(spec.get("search")).get("model"))
    return "On rows of the data, which it may have seen when it was made," if own else "On rows that it never saw,"


def _quality(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    metrics = _metrics(state)
    name = next((name for name in _LEADING_METRICS if "value" in metrics.get(name, {})), None)
    if name is None:
        return
    metric = metrics[name]
    value = f"{_judged_on(state)} {_METRIC_WORDS.get(name, name)} is {number(metric['value'])}"
    yield _says("quality", value + _interval(metric) + _compared(metric) + ".", journal.last("delivered"))
    evaluated = state.steps.get("evaluate")
    if evaluated is not None and _mapping(evaluated.result).get("tie_with_linear") is True:
        tie = "A plain linear model does as well, within the uncertainty of the measurement."
        yield _says("quality", tie, journal.step("evaluate"))


def _interval(metric: Mapping[str, Any]) -> str:
    """` (between 0.83 and 0.87)`; nothing where both ends read the same."""
    low, high = metric.get("low"), metric.get("high")
    if not _is_number(low) or not _is_number(high) or number(low) == number(high):
        return ""
    return f" (between {number(low)} and {number(high)})"


def _compared(metric: Mapping[str, Any]) -> str:
    others = [
        f"{words} reaches {number(metric[key])}"
        for key, words in (("baseline", "the best trivial guess"), ("linear", "a linear model"))
        if _is_number(metric.get(key))
    ]
    return "; " + " and ".join(others) if others else ""


def _latency(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    metric = _metrics(state).get("latency_ms_p99", {})
    if not _is_number(metric.get("value")):
        return
    text = f"The server answers in {number(metric['value'])} ms at p99"
    gate = next((gate for gate in _gates_of(state) if "latency" in gate.name), None)
    if gate is not None and _is_number(gate.threshold) and gate.threshold:
        relation = "within the" if gate.passed else "over the"
        text += f", {relation} {number(gate.threshold)} ms that were asked for"
    yield _says("latency", f"{text}.", journal.last("delivered"))


def _gates(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    refs = journal.last("delivered")
    gates = _gates_of(state)
    for gate in gates:
        if not gate.passed:
            yield _says("gates", f"The check of {gate_words(gate)} failed: {_gate_reason(gate)}", refs, failing=True)
    required = [gate for gate in gates if gate.threshold is not None]
    if required and all(gate.passed for gate in gates):
        yield _says("gates", f"It passed every check: {', '.join(map(gate_words, required))}.", refs)


def gate_words(gate: Gate) -> str:
    """What a gate checks, as people would call it."""
    return _GATE_WORDS.get(gate.name, words(gate.name))


def _gate_reason(gate: Gate) -> str:
    if gate.text:
        return sentence(gate.text)
    return f"measured {_shown(gate.value)}, required {_shown(gate.threshold)}."


def _unmet(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    for requirement in state.delivered.unmet if state.delivered is not None else ():
        yield _says("unmet", f"Not met: {sentence(requirement)}", journal.last("delivered"), failing=True)


def _findings(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    found = state.delivered.findings if state.delivered is not None else None
    for finding in cast("list[Any]", found) if isinstance(found, list) else []:
        told = _mapping(finding)
        columns = ", ".join(str(column) for column in cast("list[Any]", told.get("columns") or []))
        text = str(told.get("text") or f"{columns}: {words(str(told.get('kind', '')))}, {told.get('action', 'kept')}")
        yield _says("findings", f"In the data: {sentence(text)}", journal.last("delivered"))


def _known(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    """The surest fact of each field that a person would have been asked for; aims are too long to repeat."""
    facts = state.briefing.briefing.facts if state.briefing is not None else ()
    best = {(fact.slot, fact.field): fact for fact in sorted(facts, key=lambda fact: fact.confidence)}
    asked_for = [fact for fact in best.values() if fact.slot in {"scale", "nfr", "security"}]
    for fact in sorted(asked_for, key=lambda fact: -fact.confidence)[:_FACTS_TOLD]:
        path = fact.source.rsplit(":", 1)[0]
        text = sentence(f"{words(fact.field)} {fact.value}", longest=80)
        yield _says("known", f"Known from {path}: {text}", (*journal.last("briefed"), path))


def _answered(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    for question, value in state.answers.items():
        text = sentence(f"{words(question.rsplit('.', 1)[-1])} {_shown(value)}", longest=80)
        yield _says("answered", f"Answered: {text}", journal.answer(question))


def _assumed(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    for assumption in state.design.assumptions if state.design is not None else ():
        yield _says("assumed", f"Not confirmed: {sentence(assumption)}", journal.last("designed"))


def _place(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    if state.delivered is None or not state.delivered.system_dir or _on_existing(state):
        return
    directory = state.delivered.system_dir.rstrip("/")
    files = _files(state)
    guides = [path for path in (f"{directory}/README.md", f"{directory}/docs/design.md") if path in files]
    start = f"; start with {' and '.join(guides)}" if guides else ""
    yield _says("place", f"Everything is in {directory}{start}.", (*journal.last("delivered"), *guides))


def _next(state: TaskState, journal: _Journal) -> Iterator[Statement]:
    """What to type. Nothing is offered of a system that failed its checks or does not stand."""
    if state.delivered is None or outcome_of(state) not in {"success", "partial"} or _on_existing(state):
        return
    directory = state.delivered.system_dir.strip("/")
    if not directory:
        return
    refs = journal.last("delivered")
    version = state.delivered.version
    yield _says("next", f"Start the server with `mlmesh serve {directory}`.", refs)
    engine = _engine_command(state, directory)
    if version is None or not engine:
        return
    if not _promoted(state) and _packaged(state).get("created") is not False:
        text = f"Version {version} serves nobody yet: `{engine} promote {version}` switches to it."
        yield _says("next", text, refs)
    elif version > 1:
        yield _says(
            "next", f"Go back to the version before with `{engine} rollback`.", (*refs, *journal.step("promote"))
        )


def _promoted(state: TaskState) -> bool:
    step = state.steps.get("promote")
    return step is not None and step.outcome == "ok"


def _engine_command(state: TaskState, directory: str) -> str:
    """How to run the delivered engine by hand, from the wheel that was delivered; empty without one."""
    wheel = next((path for path in _files(state) if path.endswith(".whl")), None)
    if wheel is None or not wheel.startswith(f"/{directory}/"):
        return ""
    inside = PurePosixPath(wheel).relative_to(f"/{directory}")
    return f"cd {directory} && PYTHONPATH={inside} python -m mlsystem"


def _files(state: TaskState) -> tuple[str, ...]:
    delivered = tuple(a.path for a in state.delivered.artifacts) if state.delivered is not None else ()
    return delivered + (state.report.files_modified if state.report is not None else ())


def _gates_of(state: TaskState) -> tuple[Gate, ...]:
    return state.delivered.gates if state.delivered is not None else ()


def _metrics(state: TaskState) -> dict[str, dict[str, Any]]:
    metrics = _mapping(state.delivered.metrics) if state.delivered is not None else {}
    return {name: _mapping(metric) for name, metric in metrics.items()}


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: Any) -> str:
    """Three significant digits, whole numbers whole: 0.848, 3.1, 20, 1234."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def words(name: str) -> str:
    """`beats_trivial` -> `beats trivial`."""
    return name.replace("_", " ")


def _shown(value: object) -> str:
    if _is_number(value):
        return number(value)
    if isinstance(value, list):
        return ", ".join(str(part) for part in cast("list[object]", value))
    return {True: "yes", False: "no", None: "nothing"}.get(cast("Any", value), str(value))
