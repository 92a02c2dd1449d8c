"""Who is on the mesh: the card an agent keeps in the key-value bucket `mesh-agents`."""

from pydantic import Field

from contracts.message import Message


class AgentCard(Message):
    """What an agent is and can do."""

    name: str = Field(min_length=1)
    """The agent's name."""
    description: str
    """One sentence."""
    agent_version: str
    """Version of the program."""
    tools: tuple[str, ...] = ()
    """Tools it may use."""
    model: str = ""
    """The mind: `playbook` or a model's name."""
    facets: tuple[str, ...] = ()
    """Briefing facets it asks for."""
    sandbox: str = "none"
    """How its commands are confined."""
