"""The context-manager as a service: subject -> handler, on one screen."""

from importlib.metadata import version

from contracts import subjects
from contracts.agent import AgentCard
from contracts.briefing import ContextRequest
from services._runtime.consumer import OrderedConsumer
from services._runtime.responder import Responder
from services._runtime.service import Runtime, gather, main
from services.context_manager.desk import Desk, memories, refusal
from services.context_manager.handlers import ContextManager

REQUEST_TYPES = ("get_task_briefing", "get_file_location", "get_directory_purpose")


async def start(runtime: Runtime) -> None:
    """Answers `mesh.context.*` and reads `mesh.report.>` until the runtime stops."""
    manager = ContextManager(memories(runtime), max_file_bytes=runtime.settings.index_max_bytes)
    desk = Desk(runtime, manager)
    reports = OrderedConsumer(runtime.bus, subjects.REPORTS, f"{subjects.REPORTS_PREFIX}.>", after=manager.position())
    requests = Responder(
        runtime, [subjects.context_request(name) for name in REQUEST_TYPES], ContextRequest, desk.answer, refusal
    )
    runtime.listeners += [reports, requests]
    await runtime.introduce(
        AgentCard(
            name=subjects.CONTEXT_MANAGER,
            description="Knows the workspace: what its files say, with sources, and what agents did.",
            agent_version=version("mlmesh"),
        )
    )
    try:
        await gather(requests.run(runtime.stop), desk.read_reports(reports, runtime.stop))
    finally:
        await manager.close()


if __name__ == "__main__":
    main(subjects.CONTEXT_MANAGER, start)
