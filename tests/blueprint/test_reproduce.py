"""`reproduce`: a version made again from what is on record, whatever has become of clock, source and spec."""

from __future__ import annotations

import itertools
import math
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlsystem.__main__ import exit_code
from mlsystem.arithmetic import KERNEL, kernel_of, pin_kernels
from mlsystem.errors import DataError, RegistryError
from mlsystem.output import Reporter
from mlsystem.registry import Note, registry_of
from mlsystem.reproduce import reproduce
from mlsystem.serving.package import MODEL
from mlsystem.spec import SPEC_FILE, Spec
from mlsystem.stages import Workspace
from mlsystem.train.clock import Clock
from mlsystem.train.command import Run, as_problem, fit, replay
from mlsystem.train.matrices import Matrices
from mlsystem.train.plan import Cuts
from mlsystem.train.record import RECORD, Record, read_record
from mlsystem.train.trees import PLAIN, Pace, fit_trees
from mlsystem.versions import laid_out, read_version
from tests.blueprint.made_rows import churn, made
from tests.blueprint.made_tables import engine
from tests.blueprint.made_versions import SPEC, opened, two_versions, write_rows

SILENT = Reporter("json")
NOTE = Note("a test", "", {"outcome": "success", "servable": True})


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return two_versions(tmp_path)


def reproduced(root: Path, version: int | None = None) -> dict[str, Any]:
    return reproduce(opened(root), Namespace(version=version))


def small(budget_s: float) -> Spec:
    data = {"source": ["-"]}
    search = {"budget": f"{budget_s}s", "families": ["lightgbm"]}
    task = {"kind": "binary", "target": "target"}
    return msgspec.convert({"format": 1, "name": "a", "task": task, "data": data, "search": search}, Spec)


def test_a_version_is_made_again_byte_for_byte_after_source_and_spec_have_changed(system: Path) -> None:
    """The first version has other rows, another seed and other families than what lies in the directory now."""
    told = reproduced(system, 1)
    assert {name: told[name] for name in ("ok", "identical", "contract", "differs", "largest_difference")} == {
        "ok": True,
        "identical": True,
        "contract": "identical",
        "differs": [],
        "largest_difference": 0.0,
    }
    assert told["model"]["made"] == told["model"]["recorded"]
    assert (told["rows"]["from"], told["version"], sorted(told["plan"])) == (
        "directory",
        1,
        ["lightgbm", "lightgbm_random", "lightgbm_small", "linear"],
    )


def test_a_fresh_clone_with_the_registry_alone_is_enough(system: Path, tmp_path: Path) -> None:
    """Neither source, snapshot nor work are there; without a number the live version is made.

    This process starts with other kernels than the version was made with, and starts another one with those.
    """
    record = read_version(registry_of(opened(system)), 1).record
    other = "Haswell" if kernel_of(record.platform) != "Haswell" else "Sandybridge"
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "system.toml").write_text(f'{SPEC}[registry]\nurl = "{system}/registry"\n')
    ran = engine("reproduce", "--json", cwd=clone, **{KERNEL: other})
    assert (ran.code, ran.result["identical"], ran.result["version"], ran.result["rows"]["from"]) == (
        0,
        True,
        1,
        "registry",
    )
    assert ran.result["differs"] == []
    assert sorted(path.name for path in clone.iterdir()) == ["system.toml"]


def test_nothing_of_a_reproduction_is_left_in_the_system(system: Path) -> None:
    def listing() -> list[str]:
        return sorted(str(path.relative_to(system)) for path in system.rglob("*") if path.is_file())

    before = listing()
    reproduced(system, 2)
    assert listing() == before


def test_a_snapshot_whose_bytes_have_changed_is_refused(system: Path) -> None:
    version = read_version(registry_of(opened(system)), 1)
    copy = next((system / "data" / "snapshots" / version.snapshot.digest).iterdir())
    copy.write_bytes(copy.read_bytes().replace(b"basic", b"plain", 1))
    with pytest.raises(DataError, match=r"delete .* and run again"):
        reproduced(system, 1)


def test_rows_of_which_only_the_digest_was_kept_must_still_be_there(system: Path) -> None:
    """The source is read again; when it has changed, that is what is said."""
    registry = registry_of(opened(system))
    two = read_version(registry, 2)
    files = {**two.files, SPEC_FILE: two.files[SPEC_FILE].replace(b"[data]", b'[data]\nsnapshot = "digest"')}
    data = {name: ref for name, ref in two.entry.data.items() if not name.startswith("snapshot/")}
    number, _ = registry.register(files, "digest alone", NOTE, data=data)
    shutil.rmtree(system / "data")
    found = reproduced(system, number)
    write_rows(system, start=41)
    with pytest.raises(DataError, match="kept their digest alone"):
        reproduced(system, number)
    assert (found["identical"], found["rows"]["from"]) == (True, "source")


def test_what_ran_elsewhere_is_told_piece_by_piece(system: Path) -> None:
    """A record of another machine: the bytes happen to be the same, and what differs is named."""
    registry = registry_of(opened(system))
    version = read_version(registry, 2)
    record = msgspec.json.decode(version.files[RECORD], type=Record)
    other = msgspec.structs.replace(
        record, platform={**record.platform, "machine": "riscv64"}, versions={**record.versions, "numpy": "1.0"}
    )
    files = {**version.files, RECORD: msgspec.json.encode(other)}
    number, _ = registry.register(files, "from another machine", NOTE, data=version.entry.data)
    told = reproduced(system, number)
    assert [(item["what"], item["recorded"]) for item in told["differs"]] == [
        ("platform.machine", "riscv64"),
        ("versions.numpy", "1.0"),
    ]


def test_a_model_that_cannot_be_made_again_is_not_ok(system: Path) -> None:
    """Registered under the record of another one: the predictions are others, and the exit code says so."""
    registry = registry_of(opened(system))
    one, two = read_version(registry, 1), read_version(registry, 2)
    files = {**one.files, MODEL: two.files[MODEL]}
    number, _ = registry.register(files, "mixed up", NOTE, data=one.entry.data)
    told = reproduced(system, number)
    assert (exit_code(told), told["identical"], told["largest_difference"] > 1e-3) == (4, False, True)
    assert "could not be made again" in told["text"]


def test_a_version_without_a_record_says_that_it_has_none(system: Path) -> None:
    registry = registry_of(opened(system))
    files = dict(read_version(registry, 1).files)
    del files[RECORD]
    number, _ = registry.register(files, "older", NOTE)
    with pytest.raises(RegistryError, match="train and package it again"):
        reproduced(system, number)


def test_a_version_laid_out_has_the_rows_and_the_split_of_then(system: Path) -> None:
    registry = registry_of(opened(system))
    with laid_out(read_version(registry, 1), registry, opened(system)) as laid:
        dataset = laid.load()
        root = laid.workspace.root
    assert (dataset.table.rows, len(dataset.train) + len(dataset.holdout), root.exists()) == (240, 240, False)


# ---- the plan


def test_what_the_clock_cut_is_cut_again_without_a_clock(tmp_path: Path) -> None:
    """Each look at the clock costs half a second: some fits are cut in the middle, some configurations never begun."""
    numbers, strings, target = churn(300)
    dataset = made("binary", numbers, strings, target)
    ticks = itertools.count()
    clock = Clock(200.0, 0.0, now=lambda: next(ticks) / 2)
    first, second, free = (tmp_path / name for name in ("first", "second", "free"))
    for folder in (first, second, free):
        folder.mkdir()
    fit(dataset, small(200), first, Run(clock, SILENT))
    plan = read_record(first).plan
    replay(Workspace(tmp_path, small(200), SILENT), dataset, second, plan)
    fit(dataset, small(200), free, Run(Clock.start(60), SILENT))
    models = [(folder / MODEL).read_bytes() for folder in (first, second, free)]
    assert any(cuts.any for cuts in plan.fitted.values())
    assert (models[0] == models[1], models[0] == models[2]) == (True, False)


def test_every_fit_of_a_replay_ends_at_its_round() -> None:
    """Folds along time are followed by a refit on all rows, which has a round of its own."""
    time = np.arange(200, dtype=np.float64) * 86_400
    numbers = {"a": np.sin(time)}
    dataset = made("regression", numbers, {}, numbers["a"] * 3, by=("time", time))
    problem = as_problem(dataset, "auto", 7)
    cuts = Cuts(tuple(3 + fold for fold in range(len(problem.folds))), 4)
    pace = Pace(Clock.start(math.inf), 2, cuts)
    candidate = fit_trees(problem, Matrices.of(problem), PLAIN, pace)
    assert candidate is not None
    assert candidate.cuts == cuts


def test_kernels_are_pinned_unless_somebody_has_chosen_others() -> None:
    """Before numpy is imported, in every command."""
    chosen = {KERNEL: "Zen"}
    pin_kernels(chosen)
    mine: dict[str, str] = {}
    pin_kernels(mine)
    assert chosen == {KERNEL: "Zen"}
    assert mine in ({}, {KERNEL: "Haswell"})
