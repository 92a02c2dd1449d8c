"""Everything that can be configured, read once a process from `MLMESH_*` and the shared names of the field.

One frozen object, made in `__main__` and passed on. Nothing else reads the environment.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services._runtime.errors import Misconfigured


class Settings(BaseSettings):
    """Settings of a process. Durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="MLMESH_", frozen=True, extra="ignore", use_attribute_docstrings=True, populate_by_name=True
    )

    nats_url: str = Field(default="", validation_alias="NATS_URL")
    """Address of the bus; empty: the embedded server."""
    otlp_endpoint: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces go over OTLP/HTTP; empty: nowhere."""
    anthropic_api_key: SecretStr = Field(default=SecretStr(""), validation_alias="ANTHROPIC_API_KEY")
    """Key for Claude. A key alone never switches anything on."""
    anthropic_base_url: str = Field(default="", validation_alias="ANTHROPIC_BASE_URL")
    """Another address for the Anthropic API."""

    nkey_file: Path | None = None
    """Seed file of this process's role on the bus, as `mlmesh provision --keys` makes it; empty: the bus is open."""
    tls_ca: Path | None = None
    """Certificates that the bus's own must be signed by, PEM; set: the bus is spoken to over TLS alone."""
    tls_cert: Path | None = None
    """This process's certificate for the bus, PEM, where the server asks for one."""
    tls_key: Path | None = None
    """The key of that certificate, PEM."""

    home: Path | None = None
    """State of the embedded mesh; default `<workspace>/.mlmesh`."""
    workspace: str = ""
    """Workspace of messages that name none."""
    workspace_roots: str = ""
    """Directories that workspaces must lie in, separated by `:`; default: where the process was started."""
    mind: Literal["playbook"] = "playbook"
    """Who engineers: `playbook` is deterministic and needs no key."""
    prose: Literal["template", "claude"] = "template"
    """Who writes summaries: `claude` needs ANTHROPIC_API_KEY and falls back to the template."""
    prose_model: str = "haiku"
    """Model alias or id for summaries."""
    max_tokens: int = Field(default=20_000, gt=0)
    """Tokens of language models a task may use."""
    max_cost_usd: float = Field(default=0.5, gt=0)
    """Cost of language models a task may use, US dollars."""

    train_budget_s: float = Field(default=60, gt=0)
    """Wall time of the search for a model."""
    latency_s: float = Field(default=10, gt=0)
    """How long the latency of the delivered server is measured, a window."""
    proofs: bool = True
    """Whether a build proves what takes longer: recovery from failures, played on a copy, and training once more."""
    trainings: int = Field(default=1, ge=1)
    """Trainings at a time in one ml-engineer."""
    activations: int = Field(default=64, ge=1)
    """Tasks at work at a time in one service."""
    answers_expire_s: float = Field(default=7 * 86_400, gt=0)
    """How long a question waits for its answer."""
    summary_timeout_s: float = Field(default=30, gt=0)
    """How long the agent waits for the summarizer before it ends the task in its own words."""
    briefing_timeout_s: float = Field(default=30, gt=0)
    """How long the context-manager may take for a briefing."""

    ack_wait_s: float = Field(default=15, ge=0.5)
    """How soon a crashed executor's work is given to another."""
    max_deliver: int = Field(default=5, ge=1)
    """How often a message is tried, and a task without getting any further."""
    retry_delay_s: float = Field(default=2, gt=0)
    """Base of the delay before another try; doubles, with full jitter."""
    retry_max_s: float = Field(default=15, gt=0)
    """Longest delay before another try."""
    stop_grace_s: float = Field(default=20, ge=0)
    """How long a service that is told to stop finishes the steps it is in; what takes longer is done again."""
    publish_timeout_s: float = Field(default=5, gt=0)
    """How long one try of a publish waits for the server's word."""
    bus_patience_s: float = Field(default=60, gt=0)
    """How long a publish is retried, with the same id, while the bus is away."""
    connect_timeout_s: float = Field(default=10, gt=0)
    """How long the first connection may take."""
    heartbeat_s: float = Field(default=5, gt=0, le=15)
    """Idle heartbeat of consumers; two missed ones make a service not ready."""
    claim_check_bytes: int = Field(default=256 * 1024, ge=1024)
    """Bodies above this travel as a claim check through the object store."""
    dead_body_bytes: int = Field(default=64 * 1024, ge=0)
    """How much of a refused body a dead letter keeps."""
    replicas: int = Field(default=1, ge=1, le=5)
    """Copies of each stream."""
    store_max_bytes: int = Field(default=0, ge=0)
    """Embedded server: disk that all streams may use; over it a publish is refused, nothing is lost. 0: the disk."""
    tasks_max_bytes: int = Field(default=0, ge=0)
    """Room for the journals of all tasks; over it a publish is refused, nothing is lost. 0: the server's limit."""
    sync_always: bool = False
    """Embedded server: fsync each write, so that a power cut loses nothing either."""
    port: int = Field(default=4222, ge=0, le=65_535)
    """Port of the embedded server for `up`; `run` takes a free one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    index_max_bytes: int = Field(default=2_000_000, ge=1024)
    """Files above this size are known by name only."""

    @classmethod
    def read(cls, **given: object) -> "Settings":
        """Settings from the environment; `given` wins. Raises Misconfigured naming each wrong variable."""
        try:
            return cls(**given)  # pyright: ignore[reportArgumentType] - pydantic checks them
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise Misconfigured(f"settings are wrong: {wrong}") from error
