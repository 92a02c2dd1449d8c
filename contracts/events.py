"""The messages of a task's life: one body for each event on `mesh.task.<task>.<event>.<agent>`.

`EVENTS` is the table of event name -> body; what the events do to a task is in `contracts/task.py`.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue, field_validator

from contracts.briefing import Briefing
from contracts.message import Message, Value
from contracts.report import ActivityReport
from contracts.summary import Summary

AnswerValue = str | bool | int | float | list[str]


class Answer(Value):
    """What a person said to a question."""

    question_id: str = Field(pattern=r"^[a-z]+\.[a-z0-9_]+$")
    """`<slot>.<field>`."""
    value: AnswerValue
    """The answer."""


def _answers(given: object) -> object:
    """Accepts `{"nfr.latency": "20 ms"}` as well as a list of answers."""
    if isinstance(given, dict):
        return [{"question_id": key, "value": value} for key, value in given.items()]  # pyright: ignore[reportUnknownVariableType]
    return given


Answers = Annotated[
    tuple[Answer, ...],
    BeforeValidator(_answers, json_schema_input_type=tuple[Answer, ...] | dict[str, AnswerValue]),
]


class Constraints(Value):
    """What the asker limits."""

    deadline: AwareDatetime | None = None
    """When the task must have ended."""
    train_budget_s: float | None = Field(default=None, gt=0, le=86_400)
    """Wall time of the search for a model."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Tokens of language models."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    """Cost of language models."""
    max_wall_s: float | None = Field(default=None, gt=0)
    """Wall time of the work from one wait for people to the next; begins anew when another executor takes over."""


class TaskSubmitted(Message):
    """A request: the first event of a task."""

    request: str = Field(min_length=1, max_length=20_000)
    """What is wanted, in plain words."""
    workspace: str = ""
    """Absolute path or file:// URL under `MLMESH_WORKSPACE_ROOTS`; empty: the agent's default workspace."""
    inputs: tuple[str, ...] = ()
    """Paths in the workspace that the request is about."""
    answers: Answers = ()
    """Answers given in advance."""
    accept_defaults: bool = False
    """Proceed with defaults instead of asking; a question without a default still waits."""
    constraints: Constraints = Constraints()
    """Limits."""
    approval: Literal["auto", "design"] = "auto"
    """`design`: a person approves the design before anything is built."""
    parent: str | None = None
    """The task that asked for this one."""

    @field_validator("request")
    @classmethod
    def _says_something(cls, request: str) -> str:
        if not request.strip():
            raise ValueError("the request is blank: say in plain words what is wanted")
        return request


class Working(Message):
    """An executor's claim on a task."""

    executor: str
    """Which process."""
    event_seq: int
    """TASKS sequence of the event that woke it."""
    work_seq: int
    """WORK sequence of the doorbell."""


class Released(Message):
    """The end of an activation that had nothing to do."""

    reason: str
    """Why there was nothing to do."""


class Question(Value):
    """One thing that only a person can say."""

    id: str = Field(pattern=r"^[a-z]+\.[a-z0-9_]+$")
    """`<slot>.<field>`."""
    slot: str
    """business, scale, data, nfr, security or task."""
    field: str
    """The field of the slot."""
    text: str
    """The question."""
    why: str
    """What the answer changes."""
    default: AnswerValue | None = None
    """What is assumed without an answer; none means that the task waits."""
    evidence: tuple[str, ...] = ()
    """What led to the question or the default, with sources."""


class QuestionsAsked(Message):
    """A batch of questions; the task waits."""

    known: tuple[str, ...]
    """What is already known, acknowledged first."""
    questions: tuple[Question, ...] = Field(min_length=1)
    """What is missing."""


class QuestionsAnswered(Message):
    """Answers, from anywhere."""

    answers: Answers = Field(min_length=1)
    """One or more answers."""


class Section(Value):
    """A part of the design document."""

    title: str
    """Its heading."""
    text: str
    """Markdown."""


class DesignProposed(Message):
    """The design: the document's sections and the system's spec."""

    digest: str
    """blake2b of the spec: what an approval refers to."""
    awaits_approval: bool
    """True: nothing is built until `approved`."""
    sections: tuple[Section, ...]
    """The design document."""
    spec: dict[str, JsonValue]
    """The system's spec, as in system.toml."""
    assumptions: tuple[str, ...] = ()
    """Defaults that nobody confirmed."""


class Approved(Message):
    """A person's decision on a design."""

    design_digest: str = ""
    """The design that was read; empty: the one proposed last."""
    approve: bool = True
    """False: the design is refused and the task ends."""
    comment: str = ""
    """Why."""


class StepRecorded(Message):
    """A step that is done and will not be done again."""

    name: str
    """The step."""
    attempt: int = Field(ge=1)
    """1 for the first result recorded under this name."""
    input_digest: str
    """blake2b of the inputs: other inputs are another step."""
    outcome: Literal["ok", "failed"]
    """Whether it worked."""
    result: JsonValue = None
    """What it returned."""
    started_at: AwareDatetime
    """UTC."""
    ended_at: AwareDatetime
    """UTC."""


class Progressed(Message):
    """How far a step is, for people who watch."""

    step: str
    """The step."""
    fraction: float | None = Field(default=None, ge=0, le=1)
    """Share done, where it is known."""
    message: str = ""
    """What is happening."""
    metrics: dict[str, float] = Field(default_factory=dict[str, float])
    """Numbers worth showing."""
    handed_over: bool = False
    """The executor stops in good order and leaves the step to the next one: no failed attempt."""


class Artifact(Value):
    """A file that was delivered."""

    path: str
    """`/`-rooted at the workspace."""
    digest: str
    """sha256 of its bytes."""
    kind: Literal["spec", "contract", "engine", "code", "document", "deployment", "test", "model", "lock"]
    """What it is for."""


class Gate(Value):
    """A check that decides whether the work is done."""

    name: str
    """Which gate."""
    value: float | bool | str | None = None
    """What was measured."""
    threshold: float | bool | str | None = None
    """What was required."""
    passed: bool
    """Whether it holds."""
    text: str = ""
    """In words."""


class Delivered(Message):
    """What the work left behind, and what the gates say of it."""

    system: str
    """Name of the system."""
    system_dir: str
    """`/`-rooted at the workspace."""
    version: int | None = None
    """Version of the model in the system's registry."""
    outcome: Literal["success", "partial", "failed"]
    """Decided by the gates and by unmet answers."""
    artifacts: tuple[Artifact, ...] = ()
    """Files."""
    gates: tuple[Gate, ...] = ()
    """Checks."""
    metrics: JsonValue = None
    """name -> {value, low, high, baseline, linear}."""
    findings: JsonValue = None
    """[{kind, columns, action, text}]."""
    unmet: tuple[str, ...] = ()
    """Requirements that have no effect yet."""
    kept: tuple[str, ...] = ()
    """Files that stay as their owner edited them; what would have been written lies beside, as `<name>.new`."""


class TimedOut(Message):
    """A timer that the server fired."""

    timer: str
    """`answers`, `approval`, `summary` or `deadline`."""


class CancelRequested(Message):
    """Someone wants the task to end."""

    reason: str = ""
    """Why."""


class Redriven(Message):
    """A new doorbell for a task that had lost its own."""

    reason: str = ""
    """Why."""
    dead_id: str = ""
    """The dead letter that was redriven, if one was."""


class Totals(Value):
    """What a task used."""

    wall_s: float = Field(default=0, ge=0)
    """From submission to the end, seconds."""
    tokens: int = 0
    """Language model tokens."""
    cost_usd: float = 0
    """Language model cost."""


class Ending(Message):
    """The end of a task: what its three forms share."""

    reason: str
    """What a person needs to know; what to do where something is wrong."""
    totals: Totals = Totals()
    """What it used."""


class Completed(Ending):
    """The work is done."""

    outcome: Literal["success", "partial"] = "success"
    """`partial`: something that was asked for is not met; the reason says what."""


class Failed(Ending):
    """The work could not be done."""

    outcome: Literal["failed"] = "failed"
    """How it ended."""


class Canceled(Ending):
    """The work was stopped."""

    outcome: Literal["canceled"] = "canceled"
    """How it ended."""


Final = Completed | Failed | Canceled


EVENTS: dict[str, type[Message]] = {
    "submitted": TaskSubmitted,
    "working": Working,
    "released": Released,
    "briefed": Briefing,
    "asked": QuestionsAsked,
    "answered": QuestionsAnswered,
    "designed": DesignProposed,
    "approved": Approved,
    "step": StepRecorded,
    "progressed": Progressed,
    "delivered": Delivered,
    "reported": ActivityReport,
    "summarised": Summary,
    "timeout": TimedOut,
    "cancel-requested": CancelRequested,
    "redriven": Redriven,
    "completed": Completed,
    "failed": Failed,
    "canceled": Canceled,
}
