"""Gives a delivered system the engine of this mesh, and the files that come with it.

What an owner edited stays, ours beside it. When the new engine refuses the spec, or the system's tests fail with it,
every file is put back as it was. Documents are written anew from the facts that the delivery kept. Left out: what a
running server does meanwhile; it goes on with the engine that it has loaded.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from contracts.events import Gate
from mlsystem.errors import SpecError
from mlsystem.spec import SPEC_FILE, examine, read_toml
from services._runtime.errors import Permanent
from services._runtime.systems import find_engine
from services.ml_engineer import delivery, documents
from services.ml_engineer.build import run_tests
from services.ml_engineer.dossier import RECORD, Design, read_record, record
from services.ml_engineer.engine import NOTHING_LIVE
from services.ml_engineer.evidence import Tested
from services.ml_engineer.intent import Intent
from services.ml_engineer.site import Outcome, Site

EJECTED: Final = "engine"
"""Where an owner keeps the engine's source after taking it over."""


async def upgrade(site: Site, _intent: Intent) -> Outcome:
    """Replaces engine, locks, tests and documents; on a red gate everything is as it was before."""
    if (site.directory / EJECTED).is_dir():
        raise Permanent(
            f"the engine of {site.system} was ejected into {EJECTED}/: it is its owner's now. Merge by hand, or remove"
            f" {EJECTED}/ and upgrade again."
        )
    backup = site.home.path / "tasks" / site.activation.task / "before"
    old = await site.activation.step("backup", lambda: _backup(site, backup), result=str, inputs=site.system)
    kept = await site.activation.step("replace", lambda: _replace(site), result=tuple[str, ...], inputs=site.system)
    refused = await site.activation.step("check", lambda: _check(site), result=str, inputs=site.system)
    if not refused:
        await site.activation.step("renew", lambda: _renew(site), result=bool, inputs=site.system)
    tested = await site.activation.step("test", lambda: _test(site), result=Tested, inputs=site.system)
    gates = (
        Gate(name="spec", value=not refused, threshold=True, passed=not refused, text=refused or "it is understood"),
        Gate(name="delivered_tests", value=tested.passed, threshold=True, passed=tested.passed, text=tested.text),
    )
    new = site.engine.wheel.name
    if refused or not tested.passed:
        await asyncio.to_thread(_restore, site, backup)
        why = refused or f"its tests fail with it ({tested.text})"
        return site.ended(f"{site.system} keeps {old}: {new} does not fit, {why}.", gates=gates, outcome="failed")
    told = f"{site.system} has {new} in the place of {old}; its tests pass ({tested.text})."
    told += f"{delivery.told_of(kept)}{_left(site)}"
    return site.ended(told, gates=gates, kept=kept)


def _left(site: Site) -> str:
    if _has_record(site):
        return ""
    return (
        " Documents and deployment files stay as they are: it was delivered before their facts were kept with it;"
        f" retrain {site.system} to have them anew."
    )


async def _backup(site: Site, backup: Path) -> str:
    return await asyncio.to_thread(_copy, site, backup)


def _copy(site: Site, backup: Path) -> str:
    """Keeps a copy of everything that may be replaced; the name of the engine that stands now."""
    shutil.rmtree(backup, ignore_errors=True)
    for path in _replaceable(site):
        target = backup / path.relative_to(site.workspace)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return find_engine(site.directory).name


def _restore(site: Site, backup: Path) -> None:
    saved = {path.relative_to(backup): path for path in backup.rglob("*") if path.is_file()}
    for path in _replaceable(site):
        if path.relative_to(site.workspace) not in saved:
            path.unlink()
    for relative, path in saved.items():
        shutil.copy2(path, site.workspace / relative)


def _replaceable(site: Site) -> list[Path]:
    """Everything but what the system works with."""
    inside = (
        path
        for path in site.directory.rglob("*")
        if path.is_file() and not delivery.PASSING & set(path.relative_to(site.directory).parts)
    )
    workflow = site.workspace / ".github" / "workflows" / f"ml-{site.system}.yml"
    return [*inside, *([workflow] if workflow.is_file() else [])]


async def _replace(site: Site) -> tuple[str, ...]:
    return await asyncio.to_thread(_put_files, site)


def _put_files(site: Site) -> tuple[str, ...]:
    sha256 = delivery.put_wheel(site.engine.wheel, site.directory)
    wheel = site.engine.wheel.name
    inside: Mapping[str, str] = documents.locks(wheel, sha256) | delivery.delivered_tests()
    top: Mapping[str, str] = {}
    if _has_record(site):
        known = read_record(site.directory)
        dossier = replace(known, design=_as_it_is(site, known.design), wheel=wheel, wheel_sha256=sha256)
        inside = {**inside, **documents.render(dossier), RECORD: record(dossier)}
        top = documents.render_repository(dossier)
    return delivery.deliver(site.workspace, site.system, inside, top)


def _as_it_is(site: Site, design: Design) -> Design:
    """The design with what its owner made of system.toml since; as it was where the engine cannot take that."""
    with contextlib.suppress(SpecError):
        content = read_toml(site.directory / SPEC_FILE)
        if not examine(content)[1]:
            return design.model_copy(update={"spec": content})
    return design


def _has_record(site: Site) -> bool:
    return (site.directory / RECORD).is_file()


async def _check(site: Site) -> str:
    """Why the new engine refuses the spec, empty when it does not; an owner's keys are never dropped for it."""
    error: Mapping[str, Any] = (await site.answer(("check",))).get("error") or {}
    return str(error.get("message") or "")


async def _renew(site: Site) -> bool:
    """Documents that the engine writes itself: what it is made of, and what its server answers."""
    for words in (("sbom",), ("openapi", "--out", "docs/openapi.json")):
        error: Mapping[str, Any] = (await site.answer(words)).get("error") or {}
        if error and error.get("code") != NOTHING_LIVE:  # a server answers nothing yet: nothing to describe
            raise Permanent(f"mlsystem {words[0]}: {error.get('message')}")
    return True


async def _test(site: Site) -> Tested:
    return await run_tests(site.activation, site.own_engine, site.directory, site.log("test"))
