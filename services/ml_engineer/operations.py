"""What is done with a system that is delivered already: roll back, promote, explain, tell what was live.

Each is carried out by the engine that the system itself vendors, as a recorded step. An effect that a killed executor
left behind is found by the key that its entry in the system's history carries, so nothing is rolled back twice.
Left out: retraining and adopting a model, which are builds (handlers.py), and which system is meant (intent.py).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import JsonValue

from contracts.system import SystemEvent, SystemEventName
from services.ml_engineer.build import announce
from services.ml_engineer.intent import Action, Intent
from services.ml_engineer.moments import moment_in
from services.ml_engineer.site import Outcome, Said, Site
from services.ml_engineer.upgrade import upgrade

_WORDS: Final = 200
"""Characters of a request that an entry in a history repeats as its reason."""
_SHOWN: Final = 8
"""Findings that a report repeats; the page has them all."""


async def rollback(site: Site, intent: Intent) -> Outcome:
    """Returns to the version that was live before, or to the one that is named."""
    to = ("--to", str(intent.version)) if intent.version is not None else ()
    return await _move(site, "rolled-back", ("rollback", *to))


async def promote(site: Site, intent: Intent) -> Outcome:
    """Makes a version live: the newest, or the one that is named."""
    version = (str(intent.version),) if intent.version is not None else ()
    return await _move(site, "promoted", ("promote", *version))


async def history(site: Site, _intent: Intent) -> Outcome:
    """Tells which version was live at the moment that is asked about, now if none is."""
    at = moment_in(site.request, site.asked_at) or site.asked_at

    async def look() -> Said:
        return await site.say(("history", "--at", at.isoformat(timespec="seconds")))

    found = await site.activation.step("history", look, result=Said, inputs=site.system)
    return site.ended(str(found.get("text")), version=found.get("version"))


async def explain(site: Site, _intent: Intent) -> Outcome:
    """Tells what monitoring knows of the time that is asked about, the suspected cause first."""
    since = moment_in(site.request, site.asked_at)

    async def look() -> Said:
        return await site.say(("monitor", *(("--since", since.isoformat(timespec="seconds")) if since else ())))

    found = await site.activation.step("explain", look, result=Said, inputs=site.system)
    when = f" since {_time(since)}" if since else ""
    cause = str(found.get("cause") or "nothing that monitoring sees explains a change").rstrip(".")
    findings: Sequence[Any] = found.get("findings") or ()
    listed = "".join(f"\n- {_finding(item)}" for item in findings[:_SHOWN])
    page = f"\nThe whole page: {found.get('page')}" if found.get("page") else ""
    return site.ended(f"{site.system}{when}: {cause}.{listed}{page}", version=found.get("version"))


OPERATIONS: Final[Mapping[Action, Callable[[Site, Intent], Awaitable[Outcome]]]] = {
    "rollback": rollback,
    "promote": promote,
    "history": history,
    "explain": explain,
    "upgrade": upgrade,
}


async def _move(site: Site, event: SystemEventName, words: Sequence[str]) -> Outcome:
    key = site.activation.effect_key(words[0])
    why = f"{' '.join(site.request.split())[:_WORDS]} ({key})"

    async def move() -> Said:
        if (done := await _entry(site, key)) is None:
            said = await site.say((*words, "--by", site.activation.state.agent, "--why", why))
            if (done := await _entry(site, key)) is None:
                return Said.model_validate({"version": said.get("version"), "changed": False})
        return Said.model_validate({"version": done["version"], "previous": _from(done), "changed": True})

    moved = await site.activation.step(words[0], move, result=Said, inputs=site.system)
    version, previous = moved.get("version"), moved.get("previous")
    if not moved.get("changed"):
        told = f"Version {version} of {site.system} is live already: nothing was changed."
        return site.ended(told, version=version)
    await announce(site.activation, SystemEvent(system=site.system, event=event, model_version=version))
    verb = "Rolled back" if event == "rolled-back" else "Promoted"
    before = "" if previous is None else f", in the place of version {previous}"
    undo = f"; to undo it: python -m mlsystem promote {previous}" if before else ""
    told = f"{verb} {site.system}: version {version} is live{before}. Running servers follow within a second{undo}."
    return site.ended(told, version=version)


async def _entry(site: Site, key: str) -> Mapping[str, Any] | None:
    """The entry that carries the key: what was done, by this executor or by one that is gone."""
    entries: Sequence[Mapping[str, Any]] = (await site.say(("history",))).get("entries") or ()
    return next((entry for entry in entries if key in str(entry.get("why", ""))), None)


def _from(entry: Mapping[str, Any]) -> JsonValue:
    evidence: Mapping[str, Any] = entry.get("evidence") or {}
    return evidence.get("from")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname()}"


def _finding(item: str | Mapping[str, Any]) -> str:
    return item if isinstance(item, str) else str(item.get("text") or item)
