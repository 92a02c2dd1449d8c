"""The summarizer as a service: subject -> handler, on one screen."""

from importlib.metadata import version

from contracts import subjects
from contracts.agent import AgentCard
from services._runtime.consumer import PullConsumer
from services._runtime.errors import Misconfigured
from services._runtime.llm import Access, Claude, Limit, resolve
from services._runtime.service import Runtime, main
from services._runtime.settings import Settings
from services._runtime.worker import Worker
from services.summarizer.desk import Desk


async def start(runtime: Runtime) -> None:
    """Answers doorbells of `mesh.work.summarizer.>` until the runtime stops."""
    settings = runtime.settings
    doorbells = PullConsumer(runtime.bus, subjects.WORK, subjects.SUMMARIZER, slots=settings.activations)
    runtime.listeners.append(doorbells)
    await runtime.introduce(
        AgentCard(
            name=subjects.SUMMARIZER,
            description="Tells people what became of a task, from its journal.",
            agent_version=version("mlmesh"),
            model=settings.prose_model if settings.prose == "claude" else "template",
        )
    )
    runtime.ready.set()
    await Worker(runtime.publisher, doorbells, Desk(runtime, claude_of(settings))).run(runtime.stop)


def claude_of(settings: Settings) -> Claude | None:
    """The writer that the settings ask for. Raises Misconfigured when it has no key."""
    if settings.prose != "claude":
        return None
    key = settings.anthropic_api_key.get_secret_value()
    if not key:
        raise Misconfigured("MLMESH_PROSE=claude needs ANTHROPIC_API_KEY: set it, or use MLMESH_PROSE=template")
    return Claude(
        Access(key, settings.anthropic_base_url),
        model=resolve(settings.prose_model),
        limit=Limit(settings.max_tokens, settings.max_cost_usd),
    )


if __name__ == "__main__":
    main(subjects.SUMMARIZER, start)
