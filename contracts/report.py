"""The report of an agent's activity to the context-manager: the seed protocol's JSON, byte for byte."""

from typing import Literal

from pydantic import AliasChoices, Field

from contracts.message import Message


class ActivityReport(Message):
    """What an agent did and which files it changed.

    The protocol's other spelling (`agent_name`, `lastActionSummary`, `filesModified`) is read too. It has no
    status and is sent only when the work is done, so a missing status reads as success.
    """

    reporting_agent: str = Field(min_length=1, validation_alias=AliasChoices("reporting_agent", "agent_name"))
    """Who reports."""
    status: Literal["success", "partial", "failed"] = "success"
    """How the work ended."""
    summary: str = Field(validation_alias=AliasChoices("summary", "lastActionSummary"))
    """What was done, in words."""
    files_modified: tuple[str, ...] = Field(
        default=(), validation_alias=AliasChoices("files_modified", "filesModified")
    )
    """Files created or changed, `/`-rooted at the workspace."""
