"""What an engagement starts from, made by hand for pure tests: facts, a profile, an understanding."""

from collections.abc import Mapping, Sequence

from contracts.briefing import Fact
from contracts.events import AnswerValue
from services.ml_engineer.engine import Candidate, ColumnProfile, Profile
from services.ml_engineer.request import read
from services.ml_engineer.slots import Known, fill
from services.ml_engineer.understanding import Understanding, with_defaults, with_missing, with_target

CHURNED = Candidate(target="churned", kind="binary", score=0.9, why="two values")
COLUMNS = (
    ColumnProfile(name="customer", type="category", distinct=600),
    ColumnProfile(name="signed", type="date", distinct=500),
    ColumnProfile(name="tenure", type="integer", distinct=72),
    ColumnProfile(name="plan", type="category", distinct=3),
    ColumnProfile(name="churned", type="category", distinct=2, examples=("No", "Yes")),
)


def fact(slot_id: str, value: str, confidence: float = 0.9, source: str = "/README.md:1") -> Fact:
    """A fact of the workspace."""
    slot, field = slot_id.split(".")
    return Fact(slot=slot, field=field, value=value, source=source, confidence=confidence)


def profile(columns: Sequence[ColumnProfile] = COLUMNS, candidates: Sequence[Candidate] = (CHURNED,)) -> Profile:
    """The data as the engine profiles them."""
    return Profile(rows=600, columns=tuple(columns), candidates=tuple(candidates), time=("signed",))


def understand(
    request: str,
    *,
    answers: Mapping[str, AnswerValue] | None = None,
    facts: Sequence[Fact] = (),
    data: Profile | None = None,
    accept_defaults: bool = False,
) -> Understanding:
    """What an engagement understands, in the order of the engagement."""
    reading = read(request)
    known = fill(reading.slots, answers or {}, facts)
    known["task.data"] = Known("task.data", ["/data/churn.csv"], "request", "the request")
    found = Understanding(request=request, reading=reading, known=known, facts=tuple(facts), data=("/data/churn.csv",))
    found = with_missing(with_target(found, data or profile()))
    return with_defaults(found) if accept_defaults else found
