"""What is hurt in a drill, and what has to come of it.

Owns the closed list of scenarios: each hurts the copy for real while it is asked, and tells how long it took until
the damage was noticed and until everything was as it should be, and how many requests failed meanwhile.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from mlsystem.drill.field import Field, by
from mlsystem.drill.ground import LIVE, REGISTRY, STATE_FILE, WHY, Ground
from mlsystem.drill.probe import PATIENCE_S, Asked
from mlsystem.errors import MlsystemError, StateError

_LOOK_S: Final = 0.01
_FOREVER: Final = 1e12
_ROLLBACK_S: Final = 5.0
"""Longest time from the start of the command's process to the last answer of the other version.

It takes half a second on one host with nothing else to do; a drill may meet a busy one, and tells what it took.
"""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one scenario."""

    name: str
    did: str
    expected: str
    ok: bool
    detect_s: float | None
    """Seconds until something of the system said that it is hurt; None where nothing has to."""
    recover_s: float | None
    """Seconds until it was as it should be."""
    requests: int = 0
    failed: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name, what is done, what should come of it, and how."""

    did: str
    expected: str
    run: Callable[[Field], Times]


@dataclass(frozen=True, slots=True)
class Times:
    """What was measured; `wrong` says what was not as it should be."""

    detect_s: float | None
    recover_s: float | None
    log: list[Asked]
    wrong: str = ""


def rollback(field: Field) -> Times:
    """Type the command while the live version is asked."""
    began = time.monotonic()
    ran = field.ground.command("rollback", "--why", WHY)
    recover_s = _after(began, field.probe.settled(by(LIVE - 1), began))
    log = field.probe.since(began)
    field.ground.command("promote", str(LIVE), "--why", WHY)
    slow = f"it took more than {_ROLLBACK_S:.0f} s" if recover_s is not None and recover_s > _ROLLBACK_S else ""
    return Times(None, recover_s, log, _failed(ran.code, log) or slow)


def killed_server(field: Field) -> Times:
    """Kill the process and start it again, as whatever watches it does."""
    began = time.monotonic()
    field.kill()
    detect_s = _until(lambda: any(not asked.ok for asked in field.probe.since(began)), began)
    field.start()
    recover_s = _after(began, field.probe.settled(_answered, began))
    return Times(detect_s, recover_s, field.probe.since(began))


def corrupt_model(field: Field) -> Times:
    """Overwrite the live model's file and start a server: it may not serve it, and must serve something."""
    blob = field.ground.model_blob(LIVE)
    sound = blob.read_bytes()
    field.stop()
    blob.write_bytes(b"damaged" + sound[7:])
    try:
        began = time.monotonic()
        field.start()
        detect_s = _until(lambda: _refused(field) == [LIVE], began)
        recover_s = _after(began, field.probe.settled(by(LIVE - 1), began))
        log = field.probe.since(began + (recover_s or 0))
    finally:
        blob.write_bytes(sound)
    mended = field.probe.settled(by(LIVE), time.monotonic())
    return Times(
        detect_s, recover_s, log, _failed(0, log) or ("" if mended else "it was not taken again when it was mended")
    )


def lost_state(field: Field) -> Times:
    """Delete the directory of the state under a running server."""
    path = field.ground.root / STATE_FILE
    return _hurt_state(field, lambda: shutil.rmtree(path.parent), path.is_file)


def damaged_state(field: Field) -> Times:
    """Overwrite the state's file and its log under a running server; whoever reads them next notices.

    The server itself writes on for a while: it has the pages that it needs in memory.
    """
    path = field.ground.root / STATE_FILE

    def hurt() -> None:
        for file in (path, path.with_name(f"{path.name}-wal")):
            file.write_bytes(b"damaged" * (1 + file.stat().st_size // 7))

    def noticed() -> bool:
        _captures(field.ground)
        return any(path.parent.glob(f"{path.name}.damaged-*"))

    return _hurt_state(field, hurt, noticed)


def full_disk(field: Field) -> Times:
    """Let no file of the server grow any more, then let them grow again; meanwhile a command meets the same."""
    if not hasattr(resource, "prlimit"):
        return Times(None, None, [], "only Linux can limit a running process, so that this was not tried")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    began = time.monotonic()
    for pid in field.pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    detect_s = _until(lambda: _health(field) == "degraded", began)
    refused = field.ground.command("rollback", "--why", WHY, file_bytes=0)
    freed = time.monotonic()
    for pid in field.pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    recover_s = _until(lambda: _health(field) == "ok", freed)
    log = field.probe.since(began)
    unseen = "" if detect_s is not None else "health did not say so"
    code = refused.result.get("error", {}).get("code")
    untold = "" if code == "registry_full" else f"the command said {code}"
    return Times(detect_s, recover_s, log, _failed(0, log) or unseen or untold)


def deleted_alias(field: Field) -> Times:
    """Delete the derived file that names the champion."""
    alias = field.ground.root / REGISTRY / "aliases.json"
    before = alias.read_bytes()
    began = time.monotonic()
    alias.unlink()
    found = field.ground.command("registry", "verify")
    detect_s, mending = time.monotonic() - began, time.monotonic()
    mended = field.ground.command("registry", "repair")
    recover_s = time.monotonic() - mending
    log = field.probe.since(began)
    right = (found.code, mended.code) == (4, 0) and alias.read_bytes() == before
    return Times(detect_s, recover_s, log, _failed(0, log) or ("" if right else "it did not come back as it was"))


SCENARIOS: Final[dict[str, Scenario]] = {
    "rollback": Scenario(
        "typed `rollback` while the live version was asked",
        "the version before answers, no request fails",
        rollback,
    ),
    "killed_server": Scenario(
        "killed the server with SIGKILL and started it again", "it answers as soon as it has started", killed_server
    ),
    "corrupt_model": Scenario(
        "overwrote the file of the live model and started a server",
        "the file is refused by its digest, the version before answers, health and a metric say so",
        corrupt_model,
    ),
    "lost_state": Scenario(
        "deleted the directory of the state under load", "answers go on, a new state is made", lost_state
    ),
    "damaged_state": Scenario(
        "overwrote the state's file under load, then read it",
        "answers go on, the file is set aside, a new one is made",
        damaged_state,
    ),
    "full_disk": Scenario(
        "let no file grow, then let them grow again",
        "answers go on, health says that nothing is kept, commands say that the disk is full",
        full_disk,
    ),
    "deleted_alias": Scenario(
        "deleted aliases.json", "`registry verify` finds it, `registry repair` makes it anew", deleted_alias
    ),
}


def tried(name: str, field: Field) -> Trial:
    """Run one scenario and return what came of it."""
    scenario = SCENARIOS[name]
    try:
        field.ready()
        times = scenario.run(field)
    except MlsystemError as error:
        times = Times(None, None, [], error.message)
    wrong = times.wrong or ("" if times.recover_s is not None else "it did not recover in time")
    failed = sum(not asked.ok for asked in times.log)
    return Trial(
        name=name,
        did=scenario.did,
        expected=scenario.expected,
        ok=not wrong,
        detect_s=_rounded(times.detect_s),
        recover_s=_rounded(times.recover_s),
        requests=len(times.log),
        failed=failed,
        text=_sentence(name, times, failed, wrong),
    )


def _hurt_state(field: Field, hurt: Callable[[], object], noticed: Callable[[], bool]) -> Times:
    _until(lambda: _captures(field.ground) > 0, time.monotonic())
    began = time.monotonic()
    hurt()
    detect_s = _until(noticed, began)
    recover_s = _until(lambda: _captures(field.ground) > 0, began)
    log = field.probe.since(began)
    return Times(detect_s, recover_s, log, _failed(0, log))


def _captures(ground: Ground) -> int:
    """Count what is kept, without making a state where there is none."""
    if not (ground.root / STATE_FILE).is_file():
        return 0
    try:
        with ground.state() as state:
            return sum(1 for _ in state.captures(since=0, until=_FOREVER))
    except StateError:
        return 0


def _refused(field: Field) -> list[int]:
    return [refused["version"] for refused in field.get("/readyz").get("refused", [])]


def _health(field: Field) -> str:
    return str(field.get("/healthz").get("status"))


def _answered(asked: Asked) -> bool:
    return asked.ok


def _until(true: Callable[[], bool], began: float) -> float | None:
    """Return the seconds from `began` until it is true; None if it does not become so."""
    while time.monotonic() - began < PATIENCE_S:
        if true():
            return time.monotonic() - began
        time.sleep(_LOOK_S)
    return None


def _after(began: float, moment: float | None) -> float | None:
    return None if moment is None else moment - began


def _failed(code: int, log: list[Asked]) -> str:
    failed = [asked.why for asked in log if not asked.ok]
    if code:
        return f"the command ended with {code}"
    return f"{len(failed)} requests failed, the first with: {failed[0]}" if failed else ""


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _sentence(name: str, times: Times, failed: int, wrong: str) -> str:
    noticed = "" if times.detect_s is None else f"noticed after {times.detect_s:.2f} s, "
    recovered = "not recovered" if times.recover_s is None else f"recovered after {times.recover_s:.2f} s"
    return f"{name}: {noticed}{recovered}, {failed} of {len(times.log)} requests failed{f'; {wrong}' if wrong else ''}"
