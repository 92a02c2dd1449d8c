"""Makes the streams, durables and buckets of the mesh; the only place that does. Running it again changes nothing.

On an open bus every service makes what is missing. Where services have keys, none of them may: `mlmesh provision`
does it in the provisioner's role, and they wait for it.

Source of the shapes: contracts/subjects.py. `WORK` has no subjects of its own: the server fills it from TASKS
by subject transforms, so that an event and its doorbell are one write. `TIMERS` is apart from TASKS because a stream
with schedules lets every publisher roll it up, by a header, whatever its permissions: one message could take
everybody's history away. A full stream refuses: nothing old is ever discarded.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import structlog
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.permissions import CARDS, PARTS, PAYLOADS
from services._runtime import credentials
from services._runtime.bus import Bus, check_level
from services._runtime.errors import Forbidden, Misconfigured

_DUPLICATES_NS: Final = 120 * 10**9
_ALREADY: Final = "already in use"
_LOOK_S: Final = 0.5
"""How often a service that waits for the provisioner looks again."""
_BUCKET: Final = {"discard": "new", "allow_rollup_hdrs": True}
"""What streams of buckets have in common, as NATS clients make them."""

ADVISORY_SUBJECTS: Final = tuple(
    f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.*" for stream in subjects.STREAMS
)
"""Of every stream of the mesh: whatever durable has a limit of deliveries, what it gave up is looked after."""


Change = Literal["made", "changed", "kept"]

log = structlog.get_logger()


async def provision(bus: Bus) -> dict[str, Change]:
    """Brings the server to the mesh's shape; what was done about each stream and bucket.

    Raises: Misconfigured when it refuses or is too old; Forbidden for a role that may not.
    """
    await check_level(bus)
    done: dict[str, Change] = {config["name"]: await _stream(bus, config) for config in streams(bus)}
    for stream, durable in durables(bus):
        await _durable(bus, stream, durable)
    return done


async def provided(bus: Bus, tell: Callable[[str], None]) -> None:
    """Returns when everything that the bus's role works on is there.

    Made here on an open bus; waited for where this process has a key. `tell` hears what is missing and who makes it;
    empty: nothing.
    """
    if bus.settings.nkey_file is None:
        await provision(bus)
        return
    told = ""
    while lacking := await missing(bus):
        if lacking != told:
            told = lacking
            log.warning("provision.waiting", missing=lacking)
            tell(lacking)
        await asyncio.sleep(_LOOK_S)
    tell("")


async def missing(bus: Bus) -> str:
    """What the bus's role works on and does not find, and what to do about it; empty: nothing."""
    part = PARTS[credentials.role_of(bus.settings, bus.service)]
    lacking = await _lacking(bus, part.streams, part.durables)
    return f"the bus lacks {', '.join(lacking)}: run `mlmesh provision` in the provisioner's role" if lacking else ""


async def repair(bus: Bus) -> None:
    """Makes anew what was lost, on an open bus; where this process has a key, the log says who has to."""
    if bus.settings.nkey_file is not None:
        if lacking := await missing(bus):
            log.error("provision.needed", missing=lacking)
        return
    everything = [config["name"] for config in streams(bus)]
    pairs = [(stream, config["durable_name"]) for stream, config in durables(bus)]
    if lost := await _lacking(bus, everything, pairs):
        log.warning("provision.repairing", missing=lost)
        await provision(bus)


async def _lacking(bus: Bus, wanted: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names of streams that are not there, and `stream/durable` of durables."""
    there: list[str] = (await bus.api("STREAM.NAMES", {})).get("streams") or []
    lacking = [name for name in wanted if name not in there]
    for stream, durable in pairs:
        if stream in there and not await _info(bus, f"CONSUMER.INFO.{stream}.{durable}"):
            lacking.append(f"{stream}/{durable}")
    return lacking


def streams(bus: Bus) -> tuple[dict[str, Any], ...]:
    """The configuration of every stream, those of the buckets included, as JetStream's API takes it."""

    def stream(name: str, **rest: Any) -> dict[str, Any]:
        return {
            "name": name,
            "retention": "limits",
            "storage": "file",
            "allow_direct": True,
            "num_replicas": bus.settings.replicas,
            "duplicate_window": _DUPLICATES_NS,
            **rest,
        }

    doorbells = [{"src": source, "dest": target} for source, target in subjects.waking_transforms()]
    source, target = subjects.report_transform()
    due, timeout = subjects.due_transform()
    return (
        stream(
            subjects.TASKS,
            subjects=[subjects.ALL_TASKS],
            sources=[{"name": subjects.TIMERS, "subject_transforms": [{"src": due, "dest": timeout}]}],
            discard="new",
            max_bytes=bus.settings.tasks_max_bytes or -1,
        ),
        stream(
            subjects.TIMERS,
            subjects=[subjects.ALL_TIMERS, subjects.ALL_DUE],
            max_msgs_per_subject=1,
            allow_msg_schedules=True,
            allow_msg_ttl=True,
        ),
        stream(
            subjects.WORK,
            retention="workqueue",
            sources=[{"name": subjects.TASKS, "subject_transforms": doorbells}],
        ),
        stream(
            subjects.REPORTS,
            subjects=[f"{subjects.REPORTS_PREFIX}.>"],
            sources=[{"name": subjects.TASKS, "subject_transforms": [{"src": source, "dest": target}]}],
        ),
        stream(subjects.SYSTEMS, subjects=[subjects.ALL_SYSTEMS]),
        stream(subjects.DEAD, subjects=[subjects.ALL_DEAD]),
        stream(subjects.ADVISORIES, subjects=list(ADVISORY_SUBJECTS)),
        stream(
            CARDS,
            subjects=[f"$KV.{subjects.AGENTS_BUCKET}.>"],
            max_msgs_per_subject=1,
            deny_delete=True,
            **_BUCKET,
            allow_msg_ttl=True,
        ),
        stream(
            PAYLOADS,
            subjects=[f"$O.{subjects.PAYLOADS_BUCKET}.C.>", f"$O.{subjects.PAYLOADS_BUCKET}.M.>"],
            **_BUCKET,
        ),
    )


def durables(bus: Bus) -> tuple[tuple[str, dict[str, Any]], ...]:
    """(stream, configuration) of every durable."""

    def durable(name: str, **rest: Any) -> dict[str, Any]:
        return {
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": int(bus.settings.ack_wait_s * 1e9),
            "max_deliver": bus.settings.max_deliver,
            "max_ack_pending": 10_000,
            "deliver_policy": "all",
            **rest,
        }

    def doorbells(agent: str) -> dict[str, Any]:
        """Without a limit: a task's journal counts its attempts, and restarts in good order are none."""
        return durable(agent, filter_subject=subjects.work_of(agent), max_deliver=-1)

    return (
        (subjects.WORK, doorbells(subjects.ML_ENGINEER)),
        (subjects.WORK, doorbells(subjects.SUMMARIZER)),
        (subjects.TASKS, durable(subjects.GATEWAY, max_deliver=-1)),
        (subjects.TIMERS, durable(subjects.GATEWAY, max_deliver=-1)),
        (subjects.ADVISORIES, durable(subjects.GATEWAY, max_deliver=-1)),
        (subjects.SYSTEMS, durable(subjects.GATEWAY, max_deliver=-1)),
        (subjects.SYSTEMS, durable(subjects.SYSTEMS_DURABLE)),
    )


async def _stream(bus: Bus, config: dict[str, Any]) -> Change:
    """Creates, or updates what may change; two provisioners at once are harmless."""
    name = config["name"]
    before = await _info(bus, f"STREAM.INFO.{name}")
    _check_age(before, config)
    try:
        after = await bus.api(f"STREAM.{'UPDATE' if before else 'CREATE'}.{name}", config)
    except Forbidden:
        raise
    except Misconfigured as error:
        if _ALREADY not in str(error):
            raise Misconfigured(f"stream {name} cannot be made as the mesh needs it: {error}") from error
        return "kept"
    if not before:
        return "made"
    return "kept" if before["config"] == after["config"] else "changed"


def _check_age(before: dict[str, Any] | None, config: dict[str, Any]) -> None:
    """A stream that could once keep schedules can never be made into one that cannot."""
    if before and before["config"].get("allow_msg_schedules") and not config.get("allow_msg_schedules"):
        raise Misconfigured(
            f"stream {config['name']} was made by an earlier version of mlmesh, and the server cannot change it: let"
            f" that version finish its tasks, then give the mesh a new store (another MLMESH_HOME, or the server's)"
        )


async def _durable(bus: Bus, stream: str, config: dict[str, Any]) -> None:
    name = config["durable_name"]
    await bus.api(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def _info(bus: Bus, call: str) -> dict[str, Any]:
    """What the server says about a stream or durable; empty: there is none."""
    try:
        return await bus.api(call, {})
    except NotFoundError:
        return {}
