"""Every point at which a process of the mesh is killed, and what the mesh owes afterwards: the data of a matrix.

`tests/runtime/test_crash_points.py` tries each, the table in `services/_runtime/README.md` is made from it. A place is
`<moment> <what>`: `before` something is sent or done, `stored` once the server has it and the process does not know
yet, `after` once it knows. What happens at a place is `tests/fakes/crashing.py`'s.
"""

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["ml-engineer", "summarizer", "gateway"]
Kind = Literal["go", "fail", "cancel", "unreadable"]
ROLES: Final[tuple[Role, ...]] = ("ml-engineer", "summarizer", "gateway")
KINDS: Final[tuple[Kind, ...]] = ("go", "fail", "cancel", "unreadable")
OF_KIND: Final[dict[Kind, str]] = {
    "go": "",
    "fail": ", of a task that cannot succeed",
    "cancel": ", of a task that is cancelled in the middle of a step",
    "unreadable": ", of a submission that nobody can read",
}
"""What a task is to become, in words; without any it asks two questions and succeeds."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kill, once, in one process; another is started after it."""

    role: Role
    place: str
    survives: str
    """What is in the streams and outside of the bus when the process is dead."""
    again: str = "nothing"
    """What is done a second time."""
    claims: int = 0
    """`working` events more than without the kill."""
    effect: str = ""
    """The step whose effect is executed once more; it is applied once, by its key."""
    kind: Kind = "go"
    """What is asked for."""

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self.place}{OF_KIND[self.kind]}"


def _engineer(place: str, survives: str, again: str = "nothing", **rest: object) -> Point:
    return Point("ml-engineer", place, survives, again, **rest)  # pyright: ignore[reportArgumentType] - named in Point


_DOORBELL: Final = "the doorbell, which nobody has acknowledged"
_CLAIM: Final = "the claim, by the same doorbell: a takeover"


def _appended(event: str, before: str, *, again: str = "", closes: bool = False, effect: str = "") -> tuple[Point, ...]:
    """The three moments of an append; one that `closes` leaves nothing to take over once it is stored."""
    repeated = f"{_CLAIM}{f'; {again}' if again else ''}"
    claims = 0 if closes else 1
    stored = "nothing: the doorbell comes again and means nothing" if closes else _CLAIM
    return (
        _engineer(f"before {event}", before, repeated, claims=1, effect=effect),
        _engineer(f"stored {event}", f"`{event}`", stored, claims=claims),
        _engineer(f"after {event}", f"`{event}`", stored, claims=claims),
    )


def _timer(name: str, before: str) -> tuple[Point, ...]:
    again = f"{_CLAIM}; the timer is set again under the same name and fires once"
    return (
        _engineer(f"before timer {name}", before, _CLAIM, claims=1),
        _engineer(f"stored timer {name}", f"the timer `{name}`", again, claims=1),
    )


def _stepped(name: str) -> tuple[Point, ...]:
    again = f"{_CLAIM}; the effect, under the same key"
    return (
        _engineer(f"before effect {name}", "what was recorded before", _CLAIM, claims=1),
        _engineer(f"after effect {name}", "the effect, unrecorded", again, claims=1, effect=name),
        *_appended(f"step {name}", "the effect, unrecorded", again="the effect, under the same key", effect=name),
    )


def _acknowledged(event: str) -> tuple[Point, ...]:
    return (
        _engineer(f"before ack {event}", "what was written", "the delivery: it means nothing any more"),
        _engineer(f"after ack {event}", "what was written; the doorbell is gone"),
    )


POINTS: Final[tuple[Point, ...]] = (
    _engineer("after fetch", _DOORBELL),
    _engineer("before decode", _DOORBELL),
    _engineer("before fold", _DOORBELL),
    _engineer("after fold", _DOORBELL),
    _engineer("before working", _DOORBELL),
    _engineer("stored working", "the claim of a dead process", _CLAIM, claims=1),
    _engineer("after working", "the claim of a dead process", _CLAIM, claims=1),
    *_appended("briefed", "the claim", again="the briefing is asked for again"),
    *_timer("answers", "the briefing"),
    *_appended("asked", "the timer, which guards nothing yet", again="the timer", closes=True),
    *_acknowledged("submitted"),
    *_appended("released", "the first answer", closes=True),
    *_acknowledged("answered"),
    *_appended("designed", "the answers"),
    *_appended("progressed", "the design"),
    *_stepped("measure"),
    *_stepped("package"),
    *_appended("delivered", "every step"),
    *_timer("summary", "the delivery"),
    *_appended("reported", "the timer, which guards nothing yet", again="the timer", closes=True),
    *_appended("completed", "the summary", closes=True),
    _engineer("before unschedule", "the end; its timers, which will ring in vain"),
    _engineer("after unschedule", "the end"),
    *_acknowledged("summarised"),
    _engineer("before failed", "the report and its summary", _CLAIM, claims=1, kind="fail"),
    _engineer("stored failed", "the end", kind="fail"),
    _engineer("before canceled", "the wish to end", _CLAIM, claims=1, kind="cancel"),
    _engineer("stored canceled", "the end", kind="cancel"),
    Point("summarizer", "after fetch", "the doorbell of the report"),
    Point("summarizer", "before fold", "the doorbell of the report"),
    Point("summarizer", "after fold", "the doorbell of the report"),
    Point("summarizer", "before summarised", "the doorbell of the report", "the summary is made again"),
    Point("summarizer", "stored summarised", "the summary", "the delivery: there is a summary already"),
    Point("summarizer", "before ack reported", "the summary", "the delivery: there is a summary already"),
    Point("summarizer", "after ack reported", "the summary; the doorbell is gone"),
    Point("gateway", "after fetch", "the event, which nobody has judged"),
    Point("gateway", "before fold", "the event, which nobody has judged"),
    Point("gateway", "after fold", "the event, which nobody has judged"),
    Point("gateway", "before ack submitted", "the event", "the verdict"),
    Point("gateway", "before ack completed", "the end", "the root span, under the same ids"),
    Point("gateway", "after ack completed", "the end"),
    Point("gateway", "before dead letter", "the event that cannot be read", kind="unreadable"),
    Point("gateway", "stored dead letter", "the dead letter", "the dead letter, under the same id", kind="unreadable"),
    Point("gateway", "before failed", "the dead letter", "the dead letter, under the same id", kind="unreadable"),
    Point("gateway", "stored failed", "the dead letter and the end", "the dead letter", kind="unreadable"),
    Point("gateway", "before ack submitted", "the dead letter and the end", "the verdict", kind="unreadable"),
    Point("gateway", "after ack submitted", "the dead letter and the end", kind="unreadable"),
)
