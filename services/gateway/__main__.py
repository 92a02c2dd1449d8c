"""The gateway as a service: subject -> handler, on one screen."""

from typing import Final

from contracts import subjects
from contracts.agent import AgentCard
from services._runtime.consumer import PullConsumer
from services._runtime.service import Runtime, gather, main
from services._runtime.worker import Worker
from services.gateway.supervisor import Supervisor

_GATHER_S: Final = 0.05
"""No task waits for its events to be judged: some at a time cost a third of one by one."""

CARD = AgentCard(
    name=subjects.GATEWAY,
    description="The way in: command line, dead letters, and the supervisor that ends what nobody else can.",
    agent_version="1",
)


async def start(runtime: Runtime) -> None:
    """Judges every message of TASKS, TIMERS and SYSTEMS, hears advisories, keeps doorbells, until the runtime stops."""
    supervisor = Supervisor(runtime)
    tasks = PullConsumer(runtime.bus, subjects.TASKS, subjects.GATEWAY, gather_s=_GATHER_S)
    timers = PullConsumer(runtime.bus, subjects.TIMERS, subjects.GATEWAY, gather_s=_GATHER_S)
    advisories = PullConsumer(runtime.bus, subjects.ADVISORIES, subjects.GATEWAY)
    systems = PullConsumer(runtime.bus, subjects.SYSTEMS, subjects.GATEWAY)
    runtime.listeners += [tasks, timers, advisories, systems]
    await runtime.introduce(CARD)
    runtime.ready.set()
    await gather(
        Worker(runtime.publisher, tasks, supervisor.on_task_message).run(runtime.stop),
        Worker(runtime.publisher, timers, supervisor.on_timer).run(runtime.stop),
        Worker(runtime.publisher, advisories, supervisor.on_advisory).run(runtime.stop),
        Worker(runtime.publisher, systems, supervisor.on_system_message).run(runtime.stop),
        supervisor.rounds(),
    )


if __name__ == "__main__":
    main(subjects.GATEWAY, start)
