"""The gateway as a service: subject -> handler, on one screen."""

from contracts import subjects
from contracts.agent import AgentCard
from services._runtime.consumer import PullConsumer
from services._runtime.service import Runtime, gather, main
from services._runtime.worker import Worker
from services.gateway.supervisor import Supervisor

CARD = AgentCard(
    name=subjects.GATEWAY,
    description="The way in: command line, dead letters, and the supervisor that ends what nobody else can.",
    agent_version="1",
)


async def start(runtime: Runtime) -> None:
    """Judges every message of TASKS, TIMERS and SYSTEMS, hears advisories, keeps doorbells, until the runtime stops."""
    supervisor = Supervisor(runtime)
    tasks = PullConsumer(runtime.bus, subjects.TASKS, subjects.GATEWAY)
    timers = PullConsumer(runtime.bus, subjects.TIMERS, subjects.GATEWAY)
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
