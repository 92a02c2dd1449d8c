"""What the mesh costs, beside its peers: `python -m tests.bench.mesh`. Exits 1 when a promise does not hold.

Every round runs every system once, on the same machine, one after the other; the figures are medians and ranges over
the rounds. README.md beside this says what is measured and holds the last table.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from services._runtime.telemetry import configure_logs
from tests.bench import start
from tests.bench.mesh import contest, place, promises
from tests.bench.mesh.contest import Contest, Load
from tests.bench.mesh.growth import Growth
from tests.bench.mesh.look import Look, look
from tests.bench.mesh.ours import sweep
from tests.bench.mesh.peer import PEERS, installed
from tests.bench.mesh.profile import ProfileError
from tests.bench.mesh.program import ProgramError
from tests.bench.mesh.told import Told
from tests.environments import Environment, NotToBeHadError

PARTS: Final = ("start", "tasks", "requests", "recovery", "growth")
_LOAD: Final = Load()
_RECOVERIES: Final = 3
"""Rounds of those that recover in seconds; the others wait out a timeout and do it once."""
_SLOW: Final = {"taskiq", "temporal"}
"""They wait for 30 s and 10 s."""

Turns = Mapping[str, Callable[[], None]]
progress = Console(stderr=True)


@dataclass(slots=True)
class Bench:
    """One run of the benchmark."""

    given: argparse.Namespace
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    started: list[start.Measured] = field(default_factory=list[start.Measured])

    def run(self) -> Told:
        """Measures what is wanted."""
        machine = place.machine()
        peers = self._peers()
        contest_ = Contest(Load(self.given.tasks, self.given.burst, self.given.in_flight), peers)
        if "start" in self.given.parts:
            self._start(contest_)
        for part, turns in (("tasks", contest_.systems), ("requests", contest_.requests)):
            if part in self.given.parts:
                self._rounds(part, turns())
        if "recovery" in self.given.parts:
            self._recovery(contest_)
        if "growth" in self.given.parts:
            self._growth(contest_)
        return Told(
            command=shlex.join(["python", "-m", "tests.bench.mesh", *sys.argv[1:]]),
            date=datetime.now(UTC).date().isoformat(),
            rounds=self.given.rounds,
            machine=machine,
            versions={**place.versions(), **{name: _version(name, peer) for name, peer in peers.items()}},
            installed={name: peer.versions for name, peer in peers.items()},
            left_out=self.left_out,
            figures=contest_.figures,
            started=self.started,
            promises=promises.judged(contest_.figures, self.started, self.given.history),
        )

    def _peers(self) -> dict[str, Environment]:
        found: dict[str, Environment] = {}
        for name in self.given.peers if {"tasks", "requests", "recovery"} & set(self.given.parts) else ():
            progress.print(f"peer {name}: installing, if it is not there")
            try:
                found[name] = installed(name)
            except NotToBeHadError as error:
                self.left_out[name] = str(error)
        return found

    def _start(self, into: Contest) -> None:
        progress.print("start: each service alone, the embedded mesh, installations")
        self.started = start.measure()
        lean, whole = place.installed_mb()
        into.figures.add(contest.LEAN, contest.OURS, lean)
        into.figures.add(contest.INSTALLED, contest.OURS, whole)
        for name, peer in into.peers.items():
            into.figures.add(contest.INSTALLED, name, peer.size_mb)

    def _rounds(self, part: str, turns: Turns, *, rounds: int = 0) -> None:
        """Every system once a round, each round beginning with another one."""
        names = list(turns)
        for number in range(rounds or self.given.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                if name in self.left_out:
                    continue
                begun = time.perf_counter()
                try:
                    turns[name]()
                except ProgramError as error:
                    if name not in PEERS:
                        raise
                    self.left_out[name] = f"{part}: {str(error).strip().splitlines()[-1]}"
                progress.print(f"{part}: round {number + 1}, {name}, {time.perf_counter() - begun:.1f} s")

    def _recovery(self, into: Contest) -> None:
        quick: dict[str, Callable[[], None]] = {
            "mlmesh, ack wait 1 s": lambda: into.recover_ours("mlmesh, ack wait 1 s", MLMESH_ACK_WAIT_S="1")
        }
        slow: dict[str, Callable[[], None]] = {contest.OURS: lambda: into.recover_ours(contest.OURS)}
        for name in into.peers:
            if PEERS[name].recovers:
                (slow if name in _SLOW else quick)[name] = lambda name=name: into.recover(name)
        self._rounds("recovery", quick, rounds=min(_RECOVERIES, self.given.rounds))
        self._rounds("recovery", slow, rounds=1)

    def _growth(self, into: Contest) -> None:
        growth = Growth(self.given.history, self.given.rounds, into.figures)
        try:
            progress.print(f"growth: filling buses with {', '.join(map(str, self.given.history))} finished tasks")
            growth.fill()
            self._rounds("growth", growth.systems())
        finally:
            growth.close()


def main(arguments: Sequence[str]) -> int:
    """Measures and tells; the exit code says whether every promise holds."""
    given = _read(arguments)
    configure_logs("error", sys.stderr)
    sweep()
    if given.look or given.profile:
        return _looked(given)
    told = Bench(given).run()
    if given.json:
        given.json.write_text(told.as_json(), encoding="utf-8")
    if given.markdown:
        told.write()
    told.show(Console(width=None if sys.stdout.isatty() else 180))
    return 0 if all(promise.holds for promise in told.promises) else 1


def _looked(given: argparse.Namespace) -> int:
    load = Load(given.tasks, given.burst, given.in_flight)
    try:
        look(Look(load, given.profile, alone=given.profile_single, sync_always=given.sync_always))
    except ProfileError as error:
        progress.print(str(error))
        return 2
    return 0


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mesh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="each system once a round")
    parser.add_argument("--peers", type=_names(PEERS), default=tuple(PEERS), help=f"of {','.join(PEERS)}; 'none': none")
    parser.add_argument("--parts", type=_names(PARTS), default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's value, as one object")
    parser.add_argument("--markdown", action="store_true", help="put the tables into tests/bench/mesh/README.md")
    parser.add_argument("--tasks", type=int, default=_LOAD.tasks, help="one at a time, a run")
    parser.add_argument("--burst", type=int, default=_LOAD.burst, help="many in flight, a run")
    parser.add_argument("--in-flight", type=int, default=_LOAD.in_flight)
    parser.add_argument("--history", type=_numbers, default=(10, 1_000, 100_000), help="finished tasks on a bus")
    parser.add_argument("--look", action="store_true", help="the mesh alone, once, by process")
    parser.add_argument(
        "--profile",
        metavar="PROCESS",
        default="",
        help="as --look, with its profile; answering, asking: requests",
    )
    parser.add_argument("--profile-single", action="store_true", help="profile one task at a time")
    parser.add_argument("--sync-always", action="store_true", help="of --look: every write synced")
    return parser.parse_args(arguments)


def _names(known: Sequence[str] | Mapping[str, object]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name not in {"", "none"})
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return read


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _version(name: str, peer: Environment) -> str:
    return peer.versions.get(PEERS[name].version_of, "unknown")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
