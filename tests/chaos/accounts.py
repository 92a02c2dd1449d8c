"""What became of each message that was sent: the books of a fuzz run, from what the bus and the memories hold.

A message that was stored is processed (a fold changed, a report is remembered, an event of a system was judged), a
dead letter, or explained (it can be read and changes nothing: of a task that is over or never began, of another
agent). Anything else is unaccounted.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from contracts import subjects
from contracts.briefing import Briefing
from contracts.dead import DeadLetter, letter_id
from contracts.envelope import MSG_ID, Stored, read_event
from contracts.message import ContractError
from contracts.task import TaskState, transition
from services._runtime.bus import Bus
from tests.chaos.hostile import Made
from tests.chaos.raw import Answer

Verdict = Literal["processed", "answered", "dead", "refused_at_publish", "explained_by_fold", "unaccounted"]
VERDICTS: Final[tuple[Verdict, ...]] = (
    "processed",
    "answered",
    "dead",
    "refused_at_publish",
    "explained_by_fold",
    "unaccounted",
)


@dataclass(slots=True)
class Books:
    """Each message once. `told` says why, for what needs a word."""

    verdicts: list[tuple[Made, Verdict, str]] = field(default_factory=list[tuple[Made, Verdict, str]])
    stored: dict[tuple[str, int], Made] = field(default_factory=dict[tuple[str, int], Made])
    """What waits for a verdict: by stream and sequence."""

    def enter(self, made: Made, answer: Answer | None) -> None:
        """Takes down what the server, or a service, said at once."""
        if answer is None:
            held = "batch" in made.kind
            self._enter(
                made, "refused_at_publish" if held else "unaccounted", "held for a batch" if held else "silence"
            )
        elif answer.ended:
            self._enter(made, "refused_at_publish", answer.ended)
        elif answer.nobody:
            self._enter(made, "refused_at_publish", "no stream and nobody takes it")
        else:
            self._answered(made, answer)

    def table(self) -> dict[str, Counter[str]]:
        """Channel -> verdict -> how many."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for made, verdict, _ in self.verdicts:
            found[made.channel][verdict] += 1
        return dict(sorted(found.items()))

    def count(self, verdict: Verdict) -> int:
        """How many messages came to it."""
        return sum(found == verdict for _, found, _ in self.verdicts)

    async def close(self, bus: Bus, home: Path) -> dict[tuple[str, int], str]:
        """Gives verdicts on what was stored; returns what is still without one, and why."""
        letters = await _letters(bus, self.stored)
        folds = await _folds(bus)
        remembered = set(_remembered(home))
        left: dict[tuple[str, int], str] = {}
        for place, made in list(self.stored.items()):
            if place in letters or place[0] == subjects.DEAD:
                self._settle(place, made, "dead", letters.get(place, "kept where dead letters are"))
                continue
            verdict, why = _verdict(place, folds, remembered)
            if verdict == "unaccounted":
                left[place] = why
            else:
                self._settle(place, made, verdict, why)
        return left

    def give_up(self, left: dict[tuple[str, int], str]) -> None:
        """What is left is unaccounted."""
        for place, why in left.items():
            self._settle(place, self.stored[place], "unaccounted", f"{place[0]} {place[1]}: {why}")

    def _answered(self, made: Made, answer: Answer) -> None:
        try:
            told = json.loads(answer.body)
        except ValueError:
            self._enter(made, "refused_at_publish" if "batch" in made.kind else "unaccounted", repr(answer.body[:80]))
            return
        if "response_to" in told:
            try:
                self._enter(made, "answered", Briefing.from_bytes(answer.body).status)
            except ContractError as error:
                self._enter(made, "unaccounted", error.reason)
        elif "error" in told:
            self._enter(made, "refused_at_publish", f"{told['error'].get('err_code')} {told['error']['description']}")
        elif told.get("duplicate"):
            self._enter(made, "refused_at_publish", "a message of this id is stored already")
        elif told["stream"].startswith("KV_"):
            self._enter(made, "processed", "kept in the bucket")
        else:
            self.stored[told["stream"], told["seq"]] = made

    def _enter(self, made: Made, verdict: Verdict, why: str) -> None:
        self.verdicts.append((made, verdict, why))

    def _settle(self, place: tuple[str, int], made: Made, verdict: Verdict, why: str) -> None:
        del self.stored[place]
        self._enter(made, verdict, why)


def _verdict(place: tuple[str, int], folds: dict[int, str], remembered: set[int]) -> tuple[Verdict, str]:
    stream, seq = place
    if stream == subjects.TASKS:
        if seq in folds:
            changed = folds[seq]
            if changed.startswith("unreadable"):
                return "unaccounted", changed
            return ("processed", changed) if changed == "changed" else ("explained_by_fold", changed)
        return "unaccounted", "not in the stream any more"
    if stream == subjects.REPORTS:
        return ("processed", "remembered") if seq in remembered else ("unaccounted", "no memory of it")
    return "processed", "judged"


async def _letters(bus: Bus, sent: dict[tuple[str, int], Made]) -> dict[tuple[str, int], str]:
    """Letters that services wrote: by the message they are about, with the reason."""
    found: dict[tuple[str, int], str] = {}
    async for page in bus.pages(subjects.DEAD, subjects.ALL_DEAD):
        for stored in page:
            if (subjects.DEAD, stored.seq) in sent:
                continue
            try:
                letter = DeadLetter.from_bytes((await bus.readable(stored)).data)
            except ContractError:
                continue
            if stored.headers.get(MSG_ID) == letter_id(letter.stream, letter.stream_seq):
                found[letter.stream, letter.stream_seq] = letter.reason
    return found


async def _folds(bus: Bus) -> dict[int, str]:
    """Sequence in TASKS -> `changed`, or why it changed nothing."""
    states: dict[str, TaskState] = {}
    found: dict[int, str] = {}
    async for page in bus.pages(subjects.TASKS, ">"):
        for raw in page:
            found[raw.seq] = _folded(states, await bus.readable(raw))
    return found


def _folded(states: dict[str, TaskState], stored: Stored) -> str:
    event = read_event(stored)
    task = event.metadata.task
    before = states.get(task) or TaskState(task)
    after = states[task] = transition(before, event)
    if event.body is None:
        return f"unreadable, and no dead letter: {event.problem}"
    if replace(before, last_seq=after.last_seq) != after:
        return "changed"
    if before.final is not None:
        return "after the end"
    return "another agent's" if before.request is not None and event.agent != before.agent else "means nothing now"


def _remembered(home: Path) -> Iterator[int]:
    """Sequences of the reports that the context-manager remembers."""
    for file in home.glob("context/*/knowledge.db"):
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            yield from (int(seq) for (seq,) in connection.execute("SELECT seq FROM activity"))
