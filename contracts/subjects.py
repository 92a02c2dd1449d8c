"""Every subject, stream, durable and bucket name of the mesh, with one builder and one parser.

Owns the grammar: nothing else in the project concatenates a subject. Agent names may hold any character;
in a subject they are one token, so whatever NATS would read as structure is percent-encoded.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

TASKS: Final = "TASKS"
TIMERS: Final = "TIMERS"
WORK: Final = "WORK"
REPORTS: Final = "REPORTS"
SYSTEMS: Final = "SYSTEMS"
DEAD: Final = "DEAD"
ADVISORIES: Final = "ADVISORIES"
STREAMS: Final = (TASKS, TIMERS, WORK, REPORTS, SYSTEMS, DEAD, ADVISORIES)

AGENTS_BUCKET: Final = "mesh-agents"
PAYLOADS_BUCKET: Final = "mesh-payloads"

CONTEXT_MANAGER: Final = "context-manager"
ML_ENGINEER: Final = "ml-engineer"
SUMMARIZER: Final = "summarizer"
GATEWAY: Final = "gateway"
SERVICES: Final = (CONTEXT_MANAGER, ML_ENGINEER, SUMMARIZER, GATEWAY)

SYSTEMS_DURABLE: Final = "ml-engineer-systems"
"""Durable of the ml-engineer on SYSTEMS."""

WAKING: Final = ("submitted", "answered", "approved", "cancel-requested", "timeout", "redriven", "summarised")
"""Events that ring the agent's doorbell: each has a subject transform TASKS -> WORK."""

HINTS: Final = ("answered", "approved", "cancel-requested", "redriven", "summarised", "working", "failed")
"""What others write about a task that an executor holds. Timers are not here: core subscribers never hear them."""
ENDING_HINTS: Final = ("cancel-requested", "summarised", "completed", "failed", "canceled")
"""What makes a summary needless while it is written."""

ALL_TASKS: Final = "mesh.task.>"
ALL_TIMERS: Final = "mesh.timer.>"
ALL_DUE: Final = "mesh.due.>"
ALL_REPORTS: Final = "mesh.report.>"
ALL_SYSTEMS: Final = "mesh.system.>"
ALL_DEAD: Final = "mesh.dead.>"

CONTEXT_REQUESTS: Final = "mesh.context"
REPORTS_PREFIX: Final = "mesh.report"

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class SubjectError(ValueError):
    """A subject or a token that is not of the mesh's grammar."""


@dataclass(frozen=True, slots=True)
class TaskSubject:
    """The parts of `mesh.task.<task>.<event>.<agent>`."""

    task: str
    event: str
    agent: str


def token(name: str) -> str:
    """One subject token for any agent name; `name_of` is the inverse."""
    if not name:
        raise SubjectError("a subject token cannot be empty")
    if _PLAIN_NAME.fullmatch(name):
        return name
    return "".join(char if _PLAIN.match(char) else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name)


def name_of(encoded: str) -> str:
    """The agent name that `token` made this token from; SubjectError for a token that it makes from none.

    Permissions are given for tokens: another spelling of a name must not be read as that agent.
    """
    name = unquote(encoded)
    if not name or token(name) != encoded:
        raise SubjectError(f"{encoded!r} is no agent's token; {name!r} is written {token(name or '-')!r}")
    return name


def checked_task_id(task: str) -> str:
    """The id itself, or SubjectError when it is not `[A-Za-z0-9_-]{1,64}`."""
    if not TASK_ID.fullmatch(task):
        raise SubjectError(f"task id {task!r} is not 1 to 64 letters, digits, _ or -")
    return task


def task_event(task: str, event: str, agent: str) -> str:
    """`mesh.task.<task>.<event>.<agent>`."""
    return f"mesh.task.{checked_task_id(task)}.{event}.{token(agent)}"


def task_history(task: str) -> str:
    """The filter that selects every event of one task."""
    return f"mesh.task.{checked_task_id(task)}.>"


def events_named(event: str, agent: str = "*") -> str:
    """The filter that selects one event of every task, or of every task of one agent."""
    return f"mesh.task.*.{event}.{agent if agent == '*' else token(agent)}"


def task_events_named(task: str, event: str, agent: str = "*") -> str:
    """The filter that selects one event of one task, whoever it is addressed to."""
    return f"mesh.task.{checked_task_id(task)}.{event}.{agent if agent == '*' else token(agent)}"


def event_template(event: str, agent: str) -> str:
    """The low-cardinality name of an event's subject, for spans."""
    return f"mesh.task.{{task}}.{event}.{token(agent)}"


def work_template(agent: str) -> str:
    """The low-cardinality name of a doorbell's subject, for spans."""
    return f"mesh.work.{token(agent)}.{{task}}"


def ready(service: str) -> str:
    """`mesh.ready.<service>`: how a service is, request/reply."""
    return f"mesh.ready.{token(service)}"


def parse_task_event(subject: str) -> TaskSubject:
    """The inverse of `task_event`; SubjectError for anything else."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[:2] != ["mesh", "task"]:
        raise SubjectError(f"subject {subject!r} is not mesh.task.<task>.<event>.<agent>")
    return TaskSubject(task=checked_task_id(parts[2]), event=parts[3], agent=name_of(parts[4]))


def work_item(agent: str, task: str) -> str:
    """`mesh.work.<agent>.<task>`: the doorbell."""
    return f"mesh.work.{token(agent)}.{checked_task_id(task)}"


def work_of(agent: str) -> str:
    """The filter of an agent's durable on WORK."""
    return f"mesh.work.{token(agent)}.>"


def parse_work_item(subject: str) -> tuple[str, str]:
    """(agent, task) of a doorbell's subject; SubjectError for anything else."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[:2] != ["mesh", "work"]:
        raise SubjectError(f"subject {subject!r} is not mesh.work.<agent>.<task>")
    return name_of(parts[2]), checked_task_id(parts[3])


def task_in(subject: str) -> str:
    """The task that a subject of TASKS or WORK speaks of, unchecked; empty for any other subject."""
    parts = subject.split(".")
    place = {"task": 2, "work": 3}.get(parts[1], 0) if parts[0] == "mesh" and len(parts) > 3 else 0
    return parts[place] if place else ""


def timer(task: str, name: str, agent: str) -> str:
    """`mesh.timer.<task>.<name>.<agent>`: where a scheduled timeout is kept until it is due.

    The agent's token stands in it because the server lets a schedule publish anywhere in its stream: permissions can
    only say who may set it.
    """
    return f"mesh.timer.{checked_task_id(task)}.{token(name)}.{token(agent)}"


def timers(task: str) -> str:
    """The filter that selects every timer of one task."""
    return f"mesh.timer.{checked_task_id(task)}.>"


def due(task: str, name: str, agent: str) -> str:
    """`mesh.due.<task>.<name>.<agent>`: where the server publishes a timeout when it is due."""
    return f"mesh.due.{checked_task_id(task)}.{token(name)}.{token(agent)}"


def due_transform() -> tuple[str, str]:
    """The subject transform TIMERS -> TASKS: what is due is a `timeout` of its task, and can be nothing else."""
    return "mesh.due.*.*.*", "mesh.task.{{wildcard(1)}}.timeout.{{wildcard(3)}}"


def is_timer(subject: str) -> bool:
    """True for everything that is kept where timers are, also what is none."""
    return subject.startswith(ALL_TIMERS.removesuffix(">"))


def parse_timer(subject: str) -> tuple[str, str]:
    """(task, name) of `mesh.timer.<task>.<name>.<agent>`; SubjectError for anything else.

    Timers of earlier versions have no agent.
    """
    parts = subject.split(".")
    if len(parts) not in {4, 5} or parts[:2] != ["mesh", "timer"]:
        raise SubjectError(f"subject {subject!r} is not mesh.timer.<task>.<name>.<agent>")
    return checked_task_id(parts[2]), name_of(parts[3])


def parse_due(subject: str) -> tuple[str, str, str]:
    """(task, name, agent) of `mesh.due.<task>.<name>.<agent>`; SubjectError for anything else."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[:2] != ["mesh", "due"]:
        raise SubjectError(f"subject {subject!r} is not mesh.due.<task>.<name>.<agent>")
    return checked_task_id(parts[2]), name_of(parts[3]), name_of(parts[4])


def report(agent: str) -> str:
    """`mesh.report.<agent>`."""
    return f"{REPORTS_PREFIX}.{token(agent)}"


def parse_report(subject: str) -> str:
    """The agent of `mesh.report.<agent>`; SubjectError for anything else."""
    parts = subject.split(".")
    if len(parts) != 3 or parts[:2] != ["mesh", "report"]:
        raise SubjectError(f"subject {subject!r} is not mesh.report.<agent>")
    return name_of(parts[2])


def system_event(system: str, event: str) -> str:
    """`mesh.system.<system>.<event>`."""
    return f"mesh.system.{token(system)}.{event}"


def live(task: str) -> str:
    """`mesh.live.<task>`: core NATS, not stored."""
    return f"mesh.live.{checked_task_id(task)}"


def parse_system_event(subject: str) -> tuple[str, str]:
    """(system, event) of `mesh.system.<system>.<event>`; SubjectError for anything else."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[:2] != ["mesh", "system"]:
        raise SubjectError(f"subject {subject!r} is not mesh.system.<system>.<event>")
    return name_of(parts[2]), parts[3]


def dead(durable: str) -> str:
    """`mesh.dead.<durable>`."""
    return f"mesh.dead.{token(durable)}"


def settled(durable: str) -> str:
    """`mesh.dead.<durable>.settled`: what became of the durable's dead letters."""
    return f"{dead(durable)}.settled"


def is_settled(subject: str) -> bool:
    """True for the subjects that `settled` makes, whatever the durable."""
    parts = subject.split(".")
    return len(parts) == 4 and parts[:2] == ["mesh", "dead"] and parts[3] == "settled"


def may_answer_on(reply: str) -> bool:
    """False for a reply subject that is the mesh's or the server's own.

    A request names it freely, and whoever answers there speaks with its own permissions: it could be made to publish
    what the asker may not.
    """
    return not reply.startswith(("mesh.", "$"))


def card(agent: str) -> str:
    """`$KV.mesh-agents.<agent>`: where an agent leaves its card. Keys of buckets take no `%`."""
    return f"$KV.{AGENTS_BUCKET}.{token(agent).replace('%', '=')}"


def context_request(request_type: str) -> str:
    """The endpoint that answers a request type: `get_<facet>_context` is a briefing."""
    endpoint = "get_task_briefing" if request_type.endswith("_context") else request_type
    return f"{CONTEXT_REQUESTS}.{endpoint.replace('_', '-')}"


def waking_transforms() -> tuple[tuple[str, str], ...]:
    """(source, destination) pairs that turn waking events into doorbells."""
    to_agent = tuple((f"mesh.task.*.{event}.*", "mesh.work.{{wildcard(2)}}.{{wildcard(1)}}") for event in WAKING)
    return (*to_agent, ("mesh.task.*.reported.*", f"mesh.work.{SUMMARIZER}.{{{{wildcard(1)}}}}"))


def report_transform() -> tuple[str, str]:
    """(source, destination) that copies a task's report to REPORTS."""
    return ("mesh.task.*.reported.*", f"{REPORTS_PREFIX}.{{{{wildcard(2)}}}}")
