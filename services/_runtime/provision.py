"""Makes the streams, durables and buckets of the mesh; the only place that does. Running it again changes nothing.

Source of the shapes: contracts/subjects.py. `WORK` has no subjects of its own: the server fills it from TASKS
by subject transforms, so that an event and its doorbell are one write. Streams have no limits of their own: a
stream with schedules could only discard its oldest messages, which are the truth. The server's `max_file_store`
is the limit, and over it a publish is refused.
"""

from typing import Any, Final

from nats.js.errors import NotFoundError

from contracts import subjects
from services._runtime.bus import Bus, check_level
from services._runtime.errors import Misconfigured

_DUPLICATES_NS: Final = 120 * 10**9
_ALREADY: Final = "already in use"

ADVISORY_SUBJECT: Final = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{subjects.WORK}.*"


async def provision(bus: Bus) -> None:
    """Brings the server to the mesh's shape. Raises Misconfigured when it refuses or is too old."""
    await check_level(bus)
    for stream in streams(bus):
        await _stream(bus, stream)
    for stream, durable in durables(bus):
        await _durable(bus, stream, durable)
    js = bus.client.jetstream()
    for name in (f"KV_{subjects.AGENTS_BUCKET}", f"OBJ_{subjects.PAYLOADS_BUCKET}"):
        if not await _exists(bus, name):
            if name.startswith("KV_"):
                await js.create_key_value(bucket=subjects.AGENTS_BUCKET, history=1)
            else:
                await js.create_object_store(bucket=subjects.PAYLOADS_BUCKET)


def streams(bus: Bus) -> tuple[dict[str, Any], ...]:
    """The configuration of every stream, as JetStream's API takes it."""

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
    return (
        stream(
            subjects.TASKS,
            subjects=[subjects.ALL_TASKS, subjects.ALL_TIMERS],
            allow_atomic=True,
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
        stream(subjects.ADVISORIES, subjects=[ADVISORY_SUBJECT]),
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
        (subjects.TASKS, durable(subjects.GATEWAY, filter_subject=subjects.ALL_TASKS, max_deliver=-1)),
        (subjects.ADVISORIES, durable(subjects.GATEWAY, max_deliver=-1)),
        (subjects.SYSTEMS, durable(subjects.SYSTEMS_DURABLE)),
    )


async def _stream(bus: Bus, config: dict[str, Any]) -> None:
    """Creates, or updates what may change; two provisioners at once are harmless."""
    call = "UPDATE" if await _exists(bus, config["name"]) else "CREATE"
    try:
        await bus.api(f"STREAM.{call}.{config['name']}", config)
    except Misconfigured as error:
        if _ALREADY not in str(error):
            raise Misconfigured(f"stream {config['name']} cannot be made as the mesh needs it: {error}") from error


async def _durable(bus: Bus, stream: str, config: dict[str, Any]) -> None:
    name = config["durable_name"]
    await bus.api(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def _exists(bus: Bus, stream: str) -> bool:
    try:
        await bus.api(f"STREAM.INFO.{stream}", {})
    except NotFoundError:
        return False
    return True
