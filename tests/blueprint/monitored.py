"""A served system for monitoring's tests: the small system with a profile, and traffic as its state keeps it.

Nothing is trained: profile and windows are counted from made rows whose answers the formula gives.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from mlsystem.monitoring.command import monitor
from mlsystem.monitoring.profile import Feature, Profile
from mlsystem.monitoring.sketch import Sketch
from mlsystem.output import Reporter
from mlsystem.registry import Note, registry_of
from mlsystem.spec import seconds
from mlsystem.stages import Workspace
from mlsystem.state import Captured, Outcome, Window, state_of
from tests.blueprint import small_system

ROWS = 600
"""Rows of a window, more than are needed."""

_TIMES = ("joined", "joined:month", "joined:weekday", "joined:dayofyear")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rows of one window as tensors, and what the model says."""

    numbers: np.ndarray[Any, np.dtype[np.float64]]
    strings: np.ndarray[Any, np.dtype[np.object_]]

    @property
    def scores(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        tenure, charges = np.nan_to_num(self.numbers[:, 0]), np.nan_to_num(self.numbers[:, 1])
        raw = 0.1 * tenure - 0.01 * charges + (self.strings[:, 0] == "monthly")
        yes = 1 / (1 + np.exp(-raw))
        return np.column_stack([1 - yes, yes])


def traffic(seed: int, rows: int = ROWS, *, tenure: float = 0.0, missing: float = 0.0, plan: str = "yearly") -> Traffic:
    """Rows as in training, but `tenure` added to the tenure, a share of charges missing, and another plan's name."""
    generator = np.random.default_rng(seed)
    numbers = np.full((rows, 6), 20_000.0)
    numbers[:, 0] = generator.normal(-5, 12, rows) + tenure
    numbers[:, 1] = generator.normal(60, 20, rows)
    numbers[generator.random(rows) < missing, 1] = np.nan
    strings = np.where(generator.random((rows, 1)) < 0.5, "monthly", plan).astype(object)
    return Traffic(numbers, strings)


def profile(seed: int = 1, rows: int = 4000, season: str = "") -> Profile:
    """A profile of made rows; tenure and charges matter, the plan hardly does."""
    seen = traffic(seed, rows)
    edges = [tuple(np.quantile(seen.numbers[:, i], np.arange(1, 10) / 10).tolist()) for i in (0, 1)]
    answers = tuple(np.quantile(seen.scores[:, 1], np.arange(1, 10) / 10).tolist())
    means = seen.numbers.mean(axis=0).tolist()
    numbers = [
        Feature(
            name="tenure", column="tenure", kind="number", edges=edges[0], counts=(), importance=0.6, mean=means[0]
        ),
        Feature(
            name="charges", column="charges", kind="number", edges=edges[1], counts=(), importance=0.35, mean=means[1]
        ),
        *(Feature(name=name, column="joined", kind="number", counts=(), importance=0.0) for name in _TIMES),
    ]
    plan = Feature(
        name="plan", column="plan", kind="category", levels=("monthly", "yearly"), counts=(), importance=0.05
    )
    answer = Feature(name="probability of Yes", column="probability of Yes", kind="number", edges=answers, counts=())
    blank = Profile(
        numbers=tuple(numbers), strings=(plan,), answers=(answer,), labels=("No", "Yes"), rows=rows, metric="roc_auc",
        season=season,
    )  # fmt: skip
    sketch = sketched(blank, seen)
    filled = [
        structs.replace(feature, counts=(tuple(sketch.counts[place].tolist()),))
        for feature, place in zip(blank.features, blank.places, strict=True)
    ]
    return structs.replace(blank, numbers=tuple(filled[:6]), strings=tuple(filled[6:7]), answers=tuple(filled[7:]))


def sketched(known: Profile, seen: Traffic) -> Sketch:
    """A sketch of one window."""
    sketch = Sketch.empty(known)
    sketch.update(seen.numbers, seen.strings, seen.scores)
    return sketch


class Monitored:
    """A system whose version 1 is live, and its traffic."""

    def __init__(self, root: Path, more: str = "", *, holdout: float = 0.85, source: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        spec = small_system.spec_text().replace("[serving]", f"{source}[serving]")
        (root / "system.toml").write_text(spec + more, encoding="utf-8")
        self.workspace = Workspace.open(root, Reporter("json"))
        self.profile = profile()
        self.holdout = holdout
        self.publish({"profile.json": msgspec.json.encode(self.profile)}, version=1)

    def publish(self, files: Mapping[str, bytes], version: int) -> None:
        """Make another version live, whose package has these files besides the model's."""
        metrics = msgspec.json.encode({"metrics": {"roc_auc": {"value": self.holdout}}})
        package = {**small_system.package_files(small_system.classifier()), "metrics.json": metrics, **files}
        note = Note("a test", "to see it", {"outcome": "success", "servable": True})
        registry = registry_of(self.workspace)
        registry.register(package, f"digest-{version}", note)
        registry.promote(version, note)

    def play(self, windows: Sequence[Traffic], *, now: float, version: int = 1) -> None:
        """Store windows, the last of which ends at `now`."""
        length = seconds(self.workspace.spec.monitoring.window)
        state = state_of(self.workspace)
        for i, seen in enumerate(windows):
            start = (now // length - len(windows) + i) * length
            state.save_windows([Window(start, version, "a worker", sketched(self.profile, seen).to_bytes())])
        state.close()

    def capture(self, seen: Traffic, *, at: float, told: Sequence[str | None], seed: int = 0) -> None:
        """Store the answers to some rows at a time, and those outcomes that are not None."""
        state = state_of(self.workspace)
        names = [f"{at}-{seed}-{i}" for i in range(len(seen.scores))]
        state.capture(
            [
                Captured(
                    id=name, at=at + i * 0.001, version=1, entity="", prediction="Yes" if row[1] >= 0.5 else "No",
                    scores=tuple(row), features=None,
                )
                for i, (name, row) in enumerate(zip(names, seen.scores.tolist(), strict=True))
            ]
        )  # fmt: skip
        state.record(
            [Outcome(actual=actual, at=at, id=name) for name, actual in zip(names, told, strict=True) if actual]
        )
        state.close()

    def monitor(self, **options: object) -> dict[str, Any]:
        """Run the command."""
        usual = {"since": "", "until": "", "version": None, "out": None, "fail_on_alert": False}
        return monitor(self.workspace, Namespace(**{**usual, **options}))


def drawn(seen: Traffic, seed: int, honest: float = 1.0) -> list[str]:
    """Outcomes as the model's probabilities say, or with a smaller `honest` partly by the toss of a coin."""
    generator = np.random.default_rng(seed)
    chances = honest * seen.scores[:, 1] + (1 - honest) * 0.5
    return ["Yes" if generator.random() < chance else "No" for chance in chances]


def rows_of(seen: Traffic) -> list[dict[str, object]]:
    """The rows as a caller sends them."""
    numbers = np.round(seen.numbers[:, :2], 3).tolist()
    return [
        {"customer": "C-1", "tenure": tenure, "charges": charges, "plan": plan, "joined": "2024-10-04"}
        for (tenure, charges), plan in zip(numbers, seen.strings[:, 0].tolist(), strict=True)
    ]
