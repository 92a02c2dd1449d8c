"""How the figures are told: tables on a terminal, one JSON object, and the README's part that holds the last run."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.mesh import contest
from tests.bench.mesh.figures import Figures, brief
from tests.bench.mesh.promises import Promise
from tests.bench.start import Measured

README: Final = Path(__file__).parent / "README.md"
_OF_TASKS: Final = (
    contest.P50,
    contest.P99,
    contest.BEGAN,
    contest.RATE,
    contest.CPU,
    contest.RESIDENT_ALL,
    contest.READY,
)
_OF_THE_REST: Final = (
    contest.ONE_CALLER,
    contest.CALLERS,
    contest.CPU_OF_CALL,
    contest.RECOVERY,
    contest.INSTALLED,
    contest.LEAN,
)
_MARKED = re.compile(r"(<!-- measured -->\n).*(<!-- /measured -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that is told of a run."""

    command: str
    date: str
    rounds: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    """System or library -> version."""
    installed: Mapping[str, Mapping[str, str]]
    """Peer -> everything in its environment -> version."""
    left_out: Mapping[str, str]
    """Peers that could not be had or that failed, and why."""
    figures: Figures
    started: Sequence[Measured]
    promises: Sequence[Promise]

    def as_json(self) -> str:
        """One object, every round's value in it."""
        promises = [
            {"promise": one.text, "measured": one.measured, "limit": one.limit, "holds": one.holds}
            for one in self.promises
        ]
        told = {
            "command": self.command,
            "date": self.date,
            "rounds": self.rounds,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "installed": {name: dict(found) for name, found in self.installed.items()},
            "left_out": dict(self.left_out),
            "measures": self.figures.samples,
            "start": {f"{one.what} ({one.unit})": one.value for one in self.started},
            "promises": promises,
        }
        return json.dumps(told, indent=2)

    def show(self, console: Console) -> None:
        """On a terminal: what several systems share stands side by side, the rest below each other."""
        for title, header, rows in self._tables():
            table = Table(*header, title=title)
            for row in rows:
                table.add_row(*row)
            console.print(table)
        for name, reason in self.left_out.items():
            console.print(f"{name} is left out: {reason}")
        table = Table("promise", "measured", "limit", title="promises")
        for one in self.promises:
            sign = "at least" if one.at_least else "below"
            style = "" if one.holds else "bold red"
            table.add_row(one.text, brief(one.measured), f"{sign} {one.limit:g}", style=style)
        console.print(table)

    def as_markdown(self) -> str:
        """For the README."""
        lines = [
            f"`{self.command}`, {self.date}, {self.rounds} rounds: medians, ranges in brackets.",
            "",
            "; ".join(f"{name}: {value}" for name, value in self.machine.items()) + ".",
            "",
            "Versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items()) + ".",
        ]
        for title, header, rows in self._tables():
            lines += ["", f"### {title}", "", *_markdown(header, rows)]
        lines += [f"\n{name} is left out: {reason}" for name, reason in self.left_out.items()]
        if self.promises:
            header = ["promise", "measured", "limit", "holds"]
            rows = [
                [
                    one.text,
                    brief(one.measured),
                    f"{'≥' if one.at_least else '<'} {one.limit:g}",
                    "yes" if one.holds else "**no**",
                ]
                for one in self.promises
            ]
            lines += ["", "### Promises", "", *_markdown(header, rows)]
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Puts the run into the README, between its marks."""
        text = README.read_text(encoding="utf-8")
        README.write_text(
            _MARKED.sub(lambda found: f"{found[1]}{self.as_markdown()}{found[2]}", text), encoding="utf-8"
        )

    def _tables(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """(title, header, rows) of everything that was measured."""
        for title, measures in (("Tasks", _OF_TASKS), ("Requests, recovery, installation", _OF_THE_REST)):
            taken = [measure for measure in measures if measure in self.figures.samples]
            systems = dict.fromkeys(name for measure in taken for name in self.figures.samples[measure])
            if taken:
                yield title, ["system", *taken], [[name, *self._row(taken, name)] for name in systems]
        yield from self._processes()
        if self.started:
            rows = [[one.what, f"{one.value:.2f} {one.unit}", f"{one.floor:.2f}"] for one in self.started]
            yield "Start", ["what", "measured", "an interpreter that does nothing"], rows
        growing = [measure for measure in self.figures.samples if measure.startswith("growth: ")]
        if growing:
            names = list(dict.fromkeys(name for measure in growing for name in self.figures.samples[measure]))
            told = [[measure.removeprefix("growth: "), *self._across(measure, names)] for measure in growing]
            yield "Growth", ["measure", *names], told

    def _processes(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """What each process of the mesh takes."""
        names = [key.removeprefix(contest.RESIDENT) for key in self.figures.samples if key.startswith(contest.RESIDENT)]
        columns = [
            ("processor time a task (ms)", contest.CPU_OF, contest.OURS),
            ("the same, sync always", contest.CPU_OF, contest.ALWAYS),
            ("the same, traces exported", contest.CPU_OF, contest.TRACED),
            ("resident when ready (MB)", contest.IDLE, contest.OURS),
            ("resident after the run (MB)", contest.RESIDENT, contest.OURS),
        ]
        rows = [
            [name, *(self._cell(f"{prefix}{name}", system) for _, prefix, system in columns)]
            for name in names
            if self.figures.get(f"{contest.CPU_OF}{name}", contest.OURS)
        ]
        if rows:
            yield "Processes of the mesh", ["process", *(title for title, _, _ in columns)], rows

    def _row(self, measures: Sequence[str], system: str) -> list[str]:
        return [self._cell(measure, system) for measure in measures]

    def _across(self, measure: str, systems: Sequence[str]) -> list[str]:
        return [self._cell(measure, system) for system in systems]

    def _cell(self, measure: str, system: str) -> str:
        return str(self.figures.get(measure, system) or "")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
