"""The verdict on a run, from what the streams, the endpoint and the files hold afterwards. Pure: it asks nobody.

- lost: a task that was submitted and has not exactly one final event, or whose report is not in REPORTS.
- doubled effects: a step executed twice under one claim, or after it was recorded; more than the step in flight
  repeated by a claim; a repetition that no fault explains; an effect that did not take place once.
- stuck: neither final nor waiting for a person when time is up.
- unaccounted: a message that is not stored once, or means nothing and is no dead letter; a dead letter for no reason.
- Besides: ends that a request must not have, broken laws of a journal, doorbells that vanished without a cause.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles
from typing import Final

from contracts.dead import DeadLetter
from contracts.envelope import Stored, TaskEvent, read_event
from contracts.events import EVENTS, StepRecorded, Working
from contracts.task import FINAL_EVENTS, TaskState, transition
from tests import laws
from tests.chaos.endpoint import Endpoint
from tests.chaos.faults import Met
from tests.chaos.fleet import ACK_WAIT_S
from tests.chaos.people import Request, Said
from tests.chaos.schedule import KILLS, LOSES_DOORBELLS
from tests.chaos.stepper import STEPS

STOPS: Final = frozenset({"terminate-service", "rolling-restart"})
AFTERMATH_S: Final = 3 * ACK_WAIT_S
"""How long after its end a fault can still be why a claim is taken over: a connection made anew, a late beat."""
LATE_DOORBELL_S: Final = 15.0
"""How long after a fault of the server's doorbells may be late: it sources WORK again after a while."""
FURTHER: Final = frozenset(
    {"briefed", "asked", "designed", "step", "delivered", "reported", "summarised", *FINAL_EVENTS}
)
"""Events by which a task makes progress; a claim alone is none."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a step, as its process counted it."""

    key: str
    claim: int
    pid: int
    at: float


@dataclass(slots=True)
class Journal:
    """A task's events, and its state after each."""

    stored: list[Stored] = field(default_factory=list[Stored])
    events: list[TaskEvent] = field(default_factory=list[TaskEvent])
    states: list[TaskState] = field(default_factory=list[TaskState])
    times: list[float] = field(default_factory=list[float])

    def add(self, task: str, stored: Stored) -> None:
        """The next event."""
        event = read_event(stored)
        before = self.states[-1] if self.states else TaskState(task)
        self.stored.append(stored)
        self.events.append(event)
        self.states.append(transition(before, event))
        self.times.append(stored.time.timestamp())

    def at(self, moment: float) -> TaskState | None:
        """The state at a time; None before the first event."""
        place = bisect_right(self.times, moment)
        return self.states[place - 1] if place else None

    def time(self, seq: int) -> float:
        """When the event with this sequence was stored."""
        return next(time for time, event in zip(self.times, self.events, strict=True) if event.seq == seq)

    def final(self) -> TaskState:
        """The state now."""
        return self.states[-1]


@dataclass(slots=True)
class Evidence:
    """What a run left behind."""

    requests: Mapping[str, Request]
    said: Sequence[Said]
    met: Sequence[Met]
    tasks: Sequence[Stored]
    dead: Sequence[Stored]
    reports: Sequence[Stored]
    executions: Sequence[Execution]
    endpoint: Endpoint
    workspace: Callable[[str], Path]
    doorbells: Mapping[str, int]
    """Subjects that still stand in WORK."""
    unheard: int
    """Messages of TASKS that the gateway has not judged."""
    journals: dict[str, Journal] = field(default_factory=dict[str, Journal])

    def __post_init__(self) -> None:
        """The journals."""
        for stored in self.tasks:
            task = stored.subject.split(".")[2]
            self.journals.setdefault(task, Journal()).add(task, stored)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a kill kept the last of the tasks that it met."""

    seconds: float
    kill: str
    at: float
    task: str


@dataclass(slots=True)
class Verdict:
    """What was found, in words."""

    lost: list[str]
    doubled: list[str]
    stuck: list[str]
    unaccounted: list[str]
    wrong_ends: list[str]
    broken_laws: list[str]
    repeated_on_stop: list[str]
    recoveries: list[Recovery]

    def findings(self) -> dict[str, list[str]]:
        """What must be empty."""
        return {
            "lost": self.lost,
            "doubled_effects": self.doubled,
            "stuck": self.stuck,
            "unaccounted_messages": self.unaccounted,
            "wrong_ends": self.wrong_ends,
            "broken_laws": self.broken_laws,
            "repeated_on_stop": self.repeated_on_stop,
        }


def judge(evidence: Evidence) -> Verdict:
    """The verdict."""
    repeats = list(_repeats(evidence))
    return Verdict(
        lost=list(_lost(evidence)),
        doubled=[*_doubled(evidence), *(text for text, stopped in repeats if not stopped)],
        stuck=list(_stuck(evidence)),
        unaccounted=list(_unaccounted(evidence)),
        wrong_ends=list(_wrong_ends(evidence)),
        broken_laws=list(_broken_laws(evidence)),
        repeated_on_stop=[text for text, stopped in repeats if stopped],
        recoveries=list(_recoveries(evidence)),
    )


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99, or nothing of nothing."""
    if not values:
        return {}
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2)}


def _lost(evidence: Evidence) -> Iterator[str]:
    reported = {_source(stored) for stored in evidence.reports}
    for task in evidence.requests:
        journal = evidence.journals.get(task)
        if journal is None:
            yield f"{task} is not in TASKS"
            continue
        finals = [event.event for event in journal.events if event.event in FINAL_EVENTS]
        if len(finals) != 1:
            yield f"{task} has final events {finals}"
        yield from (
            f"the report of {task} at {event.seq} is not in REPORTS"
            for event in journal.events
            if event.event == "reported" and event.seq not in reported
        )


def _source(stored: Stored) -> int:
    """The sequence in TASKS that a copy comes from; 0 for none."""
    parts = stored.headers.get("Nats-Stream-Source", "").split()
    return int(parts[1]) if len(parts) > 1 else 0


def _stuck(evidence: Evidence) -> Iterator[str]:
    for task, journal in evidence.journals.items():
        state = journal.final()
        if state.final is None and not (state.waiting in {"answers", "approval"} and state.claim is None):
            last = journal.events[-1]
            yield f"{task} ({evidence.requests[task].words}) stands at {last.seq} {last.event}, {state.status}"


def _wrong_ends(evidence: Evidence) -> Iterator[str]:
    for task, request in evidence.requests.items():
        journal = evidence.journals.get(task)
        state = journal.final() if journal else None
        if state is not None and state.final is not None and state.final_event not in request.ends:
            yield f"{task} ({request.words}) is {state.final_event}: {state.final.reason}"


def _doubled(evidence: Evidence) -> Iterator[str]:
    counts = Counter((one.key, one.claim) for one in evidence.executions)
    yield from (f"{key} was executed {n} times under claim {claim}" for (key, claim), n in counts.items() if n > 1)
    yield from (
        f"{key} was called {n} times under claim {claim}"
        for (key, claim), n in evidence.endpoint.calls.items()
        if n > counts[key, claim]
    )
    executions, applied = _of(evidence), Counter(evidence.endpoint.applied)
    for task, journal in evidence.journals.items():
        recorded = {event.body.name: event.seq for event in journal.events if isinstance(event.body, StepRecorded)}
        yield from _done_again(journal, recorded, executions.get(task, ()))
        for name in recorded:
            if (times := applied[f"{task}/{name}"]) != 1:
                yield f"the effect {task}/{name} took place {times} times"
        if journal.final().final_event == "completed" and set(recorded) != set(STEPS):
            yield f"{task} is completed, recorded are {sorted(recorded)}"


def _done_again(journal: Journal, recorded: Mapping[str, int], executions: Sequence[Execution]) -> Iterator[str]:
    """Executions of what was done already: the claim knew it, or the executor had lost the task long before."""
    for one in executions:
        seq = recorded.get(one.key.partition("/")[2])
        if seq is None:
            continue
        if seq < one.claim:
            yield f"{one.key} was executed under claim {one.claim}, recorded at {seq} before it"
        elif one.at > journal.time(seq):
            late_s = one.at - journal.time(seq)
            yield f"{one.key} was executed under claim {one.claim} {late_s:.2f} s after it was recorded at {seq}"


def _of(evidence: Evidence) -> Mapping[str, Sequence[Execution]]:
    found: defaultdict[str, list[Execution]] = defaultdict(list)
    for one in evidence.executions:
        found[one.key.partition("/")[0]].append(one)
    return found


def _repeats(evidence: Evidence) -> Iterator[tuple[str, bool]]:
    """Repeated steps that should not be, and whether nothing but a stop in good order was why."""
    for task, executions in _of(evidence).items():
        claims: dict[int, list[str]] = {}
        for one in sorted(executions, key=lambda one: (one.claim, one.at)):
            claims.setdefault(one.claim, []).append(one.key)
        before: dict[str, int] = {}
        for claim, keys in claims.items():
            again = [key for key in keys if key in before]
            if len(again) > 1:
                yield f"claim {claim} executed {', '.join(again)} again", False
            for key in again:
                yield from _unexplained(evidence, evidence.journals[task], key, (before[key], claim))
            before |= dict.fromkeys(keys, claim)


def _unexplained(evidence: Evidence, journal: Journal, key: str, claims: tuple[int, int]) -> Iterator[tuple[str, bool]]:
    """A step executed under two claims: some fault must have been in between."""
    first, second = (journal.time(claim) for claim in claims)
    near = [met for met in evidence.met if met.began <= second and (met.ended or second) + AFTERMATH_S >= first]
    text = f"{key} was executed under claims {claims[0]} and {claims[1]}"
    if not near:
        yield f"{text}, and nothing had gone wrong in between", False
    elif all(met.kind in STOPS for met in near):
        yield f"{text}, and only {', '.join({met.kind for met in near})} was in between", True


def _unaccounted(evidence: Evidence) -> Iterator[str]:
    by_id = defaultdict[str, list[Stored]](list)
    for stored in evidence.tasks:
        by_id[stored.headers.get("Nats-Msg-Id", "")].append(stored)
    letters = {(one.stream, one.stream_seq): one for one in map(_letter, evidence.dead)}
    deserved: set[tuple[str, int]] = set()
    for one in evidence.said:
        found = by_id.get(one.id, [])
        if [stored.seq for stored in found] != ([one.seq] if one.seq else [stored.seq for stored in found[:1]]):
            places = [stored.seq for stored in found]
            yield f"{one.event} {one.id} of {one.task} is stored at {places}, the bus said {one.seq}"
            continue
        for stored in found:
            if _must_be_dead(evidence, one, stored):
                deserved.add(("TASKS", stored.seq))
                if ("TASKS", stored.seq) not in letters:
                    yield f"{one.event} at {stored.seq} of {one.task} means nothing and is no dead letter"
    twice = Counter((one.stream, one.stream_seq) for one in map(_letter, evidence.dead))
    yield from (f"{place[0]} {place[1]} is {n} dead letters" for place, n in twice.items() if n > 1)
    for place in letters.keys() - deserved:
        yield f"{place[0]} {place[1]} is a dead letter: {letters[place].reason}"


def _letter(stored: Stored) -> DeadLetter:
    return DeadLetter.from_bytes(stored.data)


def _must_be_dead(evidence: Evidence, one: Said, stored: Stored) -> bool:
    """Whether nobody could make sense of a message: unreadable, a second submission, or for an agent that is none.

    What comes too late, too early or twice is none of these: the fold passes over it, and says so by staying as it is.
    """
    event = read_event(stored)
    if event.body is None:
        return True
    journal = evidence.journals[one.task]
    first = next(found.seq for found in journal.events if found.event == "submitted") if one.event == "submitted" else 0
    return one.event == "submitted" and (stored.seq != first or event.agent != "ml-engineer")


def _broken_laws(evidence: Evidence) -> Iterator[str]:
    for task, journal in evidence.journals.items():
        request = evidence.requests[task]
        if request.readable and request.agent == "ml-engineer" and journal.final().final is not None:
            known = [
                event for event in journal.events if event.event in EVENTS
            ]  # what is invented is dead, not an event
            found = laws.violations(known, evidence.workspace(task))
            yield from (f"{task} ({request.words}): {law}" for law in found)
        yield from _lost_doorbells(evidence, task, journal)
    yield from (text for met in evidence.met for text in met.hung)
    yield from (f"a doorbell is left in WORK: {subject}" for subject in evidence.doorbells)
    if evidence.unheard:
        yield f"{evidence.unheard} messages of TASKS wait for the gateway's judgement"


def _lost_doorbells(evidence: Evidence, task: str, journal: Journal) -> Iterator[str]:
    """The supervisor rings where a doorbell is missing: that must have a cause, if only that it is late."""
    for event, time in zip(journal.events, journal.times, strict=True):
        if event.event == "redriven" and not any(
            met.began <= time and (met.ended or time) + LATE_DOORBELL_S >= journal.times[0]
            for met in evidence.met
            if met.kind in LOSES_DOORBELLS
        ):
            yield f"{task} had lost its doorbell at {event.seq}, and nothing takes doorbells away"


def _recoveries(evidence: Evidence) -> Iterator[Recovery]:
    """For each kill that met tasks at work: seconds until the last of them got further than it was."""
    for met in (met for met in evidence.met if met.kind in KILLS):
        waits = [
            (wait, task)
            for task, journal in evidence.journals.items()
            if "overdue" not in evidence.requests[task].words and (wait := _until_further(journal, met)) is not None
        ]
        if waits:
            wait, task = max(waits)
            yield Recovery(round(wait, 2), f"{met.kind} {met.target}", met.began, task)


def _until_further(journal: Journal, met: Met) -> float | None:
    """Seconds from the kill to the task's next progress; None when the kill does not concern it, or none came."""
    state = journal.at(met.began)
    if state is None or not _concerns(state, met):
        return None
    later = zip(journal.times, journal.events, strict=True)
    return next((time - met.began for time, event in later if time > met.began and event.event in FURTHER), None)


def _concerns(state: TaskState, met: Met) -> bool:
    """Whether whoever died was to do something for the task."""
    if state.final is not None or state.request is None:
        return False
    if met.kind != "kill-service":
        return state.needs_doorbell or state.waiting == "summary"
    match met.target:
        case "summarizer":
            return state.waiting == "summary"
        case "context-manager":
            return state.claim is not None and state.briefing is None
        case "gateway":
            return False
        case _:
            return state.claim is not None and any(state.claim.executor.endswith(f":{pid}") for pid in met.pids)


def takeovers(evidence: Evidence) -> int:
    """How often an executor took a task over from one that had not let go."""
    return sum(
        isinstance(event.body, Working) and place > 0 and journal.states[place - 1].claim is not None
        for journal in evidence.journals.values()
        for place, event in enumerate(journal.events)
    )


def late(evidence: Evidence) -> int:
    """How many messages of people changed nothing, since they came too late, too early or twice."""
    ids = {one.id for one in evidence.said}
    return sum(
        event.metadata.id in ids and place > 0 and _same(journal.states[place - 1], journal.states[place])
        for journal in evidence.journals.values()
        for place, event in enumerate(journal.events)
    )


def _same(before: TaskState, after: TaskState) -> bool:
    return replace(before, last_seq=0) == replace(after, last_seq=0)
