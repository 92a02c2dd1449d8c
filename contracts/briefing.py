"""The conversation with the context-manager: what the project already knows.

`ContextRequest` and `Briefing` are the seed protocol's JSON, byte for byte; `facts` is what the mesh adds.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from contracts.message import Message, Value

_FACET = re.compile(r"get_([a-z0-9][a-z0-9_-]*)_context")

RequestType = Annotated[
    str,
    StringConstraints(
        pattern=r"^(get_task_briefing|get_file_location|get_directory_purpose|get_[a-z0-9][a-z0-9_-]*_context)$"
    ),
]


class Query(Value):
    """What is asked."""

    query: str = Field(min_length=1, max_length=20_000)
    """The question in plain words, a file name or a directory."""


class ContextRequest(Message):
    """A question to the context-manager about the workspace."""

    requesting_agent: str = Field(min_length=1, max_length=200)
    """Who asks."""
    request_type: RequestType
    """`get_task_briefing`, `get_file_location`, `get_directory_purpose` or `get_<facet>_context`."""
    payload: Query
    """The question."""

    @property
    def facet(self) -> str | None:
        """The facet of `get_<facet>_context`, else None."""
        match = _FACET.fullmatch(self.request_type)
        return match.group(1) if match else None


class Activity(Value):
    """Something an agent did before."""

    agent: str
    """Who did it."""
    summary: str
    """What was done, in words."""
    timestamp: datetime | None = None
    """When the report was stored, UTC."""


class Fact(Value):
    """One thing the workspace says, with its place."""

    slot: str
    """business, scale, data, nfr, security, task, or stack."""
    field: str
    """The field of the slot, such as `latency`."""
    value: str
    """What the source says, in a form that answers the field."""
    source: str
    """`/path:line`, rooted at the workspace."""
    confidence: float = Field(ge=0, le=1)
    """How sure the reading is: 1 is a typed declaration, .3 a passing mention."""


class BriefingBody(Value):
    """What is known."""

    summary: str
    """The answer in a few sentences."""
    relevant_paths: tuple[str, ...] = ()
    """Existing paths, `/`-rooted at the workspace."""
    file_purposes: dict[str, str] = Field(default_factory=dict[str, str])
    """What each of the paths is for."""
    related_activity: tuple[Activity, ...] = ()
    """Earlier reports that concern the question, newest first."""
    facts: tuple[Fact, ...] = ()
    """What the workspace's files say, with sources."""


class Briefing(Message):
    """The context-manager's answer."""

    response_to: str
    """The agent that asked."""
    status: Literal["success", "not_found", "error"]
    """`not_found` rather than a guess."""
    briefing: BriefingBody
    """What is known."""
