"""Which faults a run meets, in which order and after which pauses: a pure function of the seed.

Only the choice is repeatable; when a fault meets which task is the machine's. `--kills` counts kill -9 alone; what
else goes wrong comes on top, each kind in turn so that a run of any length has its share of all of them.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, get_args

from contracts import subjects

ENGINEERS: Final = ("ml-engineer-1", "ml-engineer-2")
PROCESSES: Final = (subjects.CONTEXT_MANAGER, subjects.SUMMARIZER, subjects.GATEWAY, *ENGINEERS)

Kill = Literal["kill-service", "kill-all", "kill-server"]
Trouble = Literal[
    "freeze-service", "terminate-service", "rolling-restart", "cut", "server-unheard", "client-unheard", "refused",
    "freeze-server", "server-dies-while-frozen", "durable-lost", "reader-lost", "doorbells-purged", "work-deleted",
    "work-rung-again", "clock-jumps", "store-full", "store-broken", "minority-frozen", "rolling-upgrade",
]  # fmt: skip
Kind = Kill | Trouble

KILLS: Final[Mapping[Kill, int]] = {"kill-service": 10, "kill-server": 4, "kill-all": 1}
"""How often each is chosen, relative to the others."""
ONE_NODE: Final[Sequence[Trouble]] = (
    "freeze-service", "terminate-service", "cut", "durable-lost", "server-unheard", "freeze-server", "work-rung-again",
    "freeze-service", "clock-jumps", "refused", "work-deleted", "client-unheard", "server-dies-while-frozen",
    "rolling-restart", "reader-lost", "doorbells-purged", "store-full", "freeze-service", "store-broken",
)  # fmt: skip
THREE_NODES: Final[Sequence[Trouble]] = (
    "minority-frozen", "freeze-service", "terminate-service", "cut", "durable-lost", "rolling-upgrade",
    "server-unheard", "clock-jumps", "client-unheard", "rolling-restart", "reader-lost", "freeze-service",
    "doorbells-purged", "refused",
)  # fmt: skip
LOSES_DOORBELLS: Final[frozenset[Kind]] = frozenset(
    {
        "doorbells-purged", "work-deleted", "work-rung-again", "store-full", "store-broken", "kill-server", "kill-all",
        "freeze-server", "server-dies-while-frozen", "minority-frozen", "rolling-upgrade",
    }
)  # fmt: skip
"""After these a doorbell may be missing until the supervisor looks, or come so late that it looks before."""
KINDS: Final[Sequence[Kind]] = (*get_args(Kill), *get_args(Trouble))
TROUBLES_PER_KILL: Final = 0.6
BUSY: Final = ("ml-engineer-1", "ml-engineer-2", *PROCESSES)
"""Whom a fault of a service meets: executors twice as often, they hold the work."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind
    pause_s: float
    """After the fault before it."""
    target: str = ""
    """The process that it meets, or the durable."""
    lasts_s: float = 0
    """How long, where it lasts."""
    choice: float = 0
    """A number from 0 to 1 for what else there is to choose."""

    def told(self) -> dict[str, object]:
        """For the log of a run."""
        return asdict(self)


def plan(seed: int, kills: int, *, nodes: int = 1, pace_s: float = 1.0) -> tuple[Fault, ...]:
    """The faults of a run: `kills` times kill -9, and the other kinds between them."""
    rng = random.Random(seed)
    kinds: list[Kind] = rng.choices(list(KILLS), list(KILLS.values()), k=kills)
    others = _dealt(rng, ONE_NODE if nodes == 1 else THREE_NODES, round(kills * TROUBLES_PER_KILL))
    places = sorted(rng.sample(range(len(kinds) + len(others)), len(others)))
    for place, other in zip(places, others, strict=True):
        kinds.insert(place, other)
    return tuple(_fault(rng, kind, pace_s) for kind in kinds)


def only(
    seed: int, kinds: Sequence[Kind], number: int, *, pace_s: float = 1.0, targets: Sequence[str] = ()
) -> tuple[Fault, ...]:
    """A plan of these kinds alone, in turn, so many faults; they meet `targets` where these are given."""
    rng = random.Random(seed)
    found = (_fault(rng, kinds[place % len(kinds)], pace_s) for place in range(number))
    return tuple(replace(fault, target=rng.choice(targets) if targets else fault.target) for fault in found)


def _dealt(rng: random.Random, deck: Sequence[Trouble], number: int) -> list[Kind]:
    """So many cards, of decks that are shuffled one after the other."""
    dealt: list[Kind] = []
    while len(dealt) < number:
        dealt += rng.sample(deck, len(deck))
    return dealt[:number]


def _fault(rng: random.Random, kind: Kind, pace_s: float) -> Fault:
    pause_s = round(rng.uniform(0.2, 1.8) * pace_s, 3)
    target = rng.choice(_targets(kind))
    return Fault(kind, pause_s, target, lasts_s=round(rng.uniform(0.3, 1.0), 3), choice=round(rng.random(), 3))


def _targets(kind: Kind) -> Sequence[str]:
    match kind:
        case "durable-lost":
            return tuple(f"{stream}/{durable}" for stream, durable in DURABLES)
        case "clock-jumps":
            return ENGINEERS
        case "kill-server" | "minority-frozen":
            return ("0", "1", "2")
        case _:
            return BUSY


DURABLES: Final = (
    (subjects.WORK, subjects.ML_ENGINEER),
    (subjects.WORK, subjects.SUMMARIZER),
    (subjects.TASKS, subjects.GATEWAY),
    (subjects.TIMERS, subjects.GATEWAY),
    (subjects.ADVISORIES, subjects.GATEWAY),
)


def by_kind(faults: Iterable[Fault]) -> dict[str, int]:
    """How many there are of each kind."""
    counts: dict[str, int] = {}
    for fault in faults:
        counts[fault.kind] = counts.get(fault.kind, 0) + 1
    return dict(sorted(counts.items()))
