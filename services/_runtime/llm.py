"""The one seam to language models: everything that leaves for Anthropic goes through `Claude.write`.

Owns the model aliases and their prices, the ledger (reserve before a call, settle after it), the retries of a
turn and the translation of failures into the error tree. Always streams, and asks for structured output. What
is sent is redacted. The `anthropic` package is imported at the first call, in a thread: it takes over a second.
The package itself emits the `gen_ai.*` client spans when a tracer provider is set; none are added here.

Left out: tools and conversations. A call is one system prompt, one prompt, one answer in a given shape.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Mapping
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from services._runtime.errors import BudgetExceeded, MeshError, Misconfigured, Permanent, Transient
from services._runtime.redaction import redact

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import Message, MessageParam, OutputConfigParam

Output = TypeVar("Output", bound=BaseModel)

_RETRIED_TYPES: Final = {"rate_limit_error", "overloaded_error", "api_error", "timeout_error", "conflict_error"}
_RETRIED_STATUSES: Final = {408, 409, 429}
_WRONG_SETTINGS: Final = {"authentication_error", "permission_error", "not_found_error"}
_BYTES_A_TOKEN: Final = 3
"""English has about four; a reservation must not be too small."""
_LONGEST_DELAY_S: Final = 8.0


class LlmUnavailable(Transient):
    """A turn that may work when it is tried again. `retry_after_s` is the server's wish, where it has one."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Writer(Protocol):
    """Who turns a prompt into an answer of a given shape."""

    async def write(self, *, system: str, prompt: str, output: type[Output]) -> Output:
        """The answer. Raises MeshError: Transient, Permanent (BudgetExceeded) or Misconfigured."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its list price, US dollars a million tokens."""

    id: str
    input_usd: float
    output_usd: float


MODELS: Final[Mapping[str, Model]] = {
    "haiku": Model("claude-haiku-5-5", 1.0, 5.0),
    "sonnet": Model("claude-sonnet-5-5", 3.0, 15.0),
    "opus": Model("claude-opus-5-5", 5.0, 25.0),
}
"""Alias -> model. Prices are the published ones of each family; they bound a task, they are not an invoice."""


def resolve(name: str, models: Mapping[str, Model] = MODELS) -> Model:
    """The model of an alias or an id; an id that is not in the table is priced like the dearest that is."""
    known = {**{model.id: model for model in models.values()}, **models}
    if name in known:
        return known[name]
    if not name.startswith("claude-"):
        raise Misconfigured(f"model {name!r} is unknown: use one of {', '.join(models)} or a model id")
    dearest = max(models.values(), key=lambda model: model.output_usd)
    return Model(name, dearest.input_usd, dearest.output_usd)


@dataclass(frozen=True, slots=True)
class Limit:
    """What one task may use."""

    tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and their cost."""

    tokens: int
    cost_usd: float


@dataclass(slots=True)
class Ledger:
    """What a task has used of its limit. A call first reserves the most it can use, then settles what it used."""

    limit: Limit
    tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0
    _held: list[Usage] = field(default_factory=list[Usage])

    def reserve(self, most: Usage) -> None:
        """Holds `most` until it is settled. Raises BudgetExceeded when it does not fit any more."""
        tokens = self.tokens + sum(held.tokens for held in self._held) + most.tokens
        cost = self.cost_usd + sum(held.cost_usd for held in self._held) + most.cost_usd
        if tokens > self.limit.tokens:
            raise BudgetExceeded(
                f"a call of up to {most.tokens} tokens does not fit: {self.tokens} of {self.limit.tokens} are used;"
                f" raise MLMESH_MAX_TOKENS or the task's max_tokens"
            )
        if cost > self.limit.cost_usd:
            raise BudgetExceeded(
                f"a call of up to ${most.cost_usd:.4f} does not fit: ${self.cost_usd:.4f} of"
                f" ${self.limit.cost_usd:.2f} are used; raise MLMESH_MAX_COST_USD or the task's max_cost_usd"
            )
        self._held.append(most)

    def settle(self, most: Usage, used: Usage) -> None:
        """Replaces a reservation by what was really used."""
        self._held.remove(most)
        self.tokens += used.tokens
        self.cost_usd += used.cost_usd
        self.calls += 1


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a call is tried. Durations in seconds."""

    attempts: int = 3
    base_delay_s: float = 0.5
    """Doubles with each attempt, with full jitter."""
    timeout_s: float = 20.0
    """For a whole `write` from when it has a place, retries included."""
    queue_s: float = 5.0
    """How long a `write` waits for a place; together less than whoever asked has patience for."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API."""

    api_key: str = field(repr=False)
    base_url: str = ""
    """Empty: the SDK's own."""
    calls_at_a_time: int = 2


class _Connection:
    """The SDK's client, made at the first call and shared by all tasks of a process."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: AsyncAnthropic | None = None
        self._making = asyncio.Lock()
        self.places = asyncio.Semaphore(access.calls_at_a_time)

    async def client(self) -> "AsyncAnthropic":
        async with self._making:
            if self._client is None:
                await asyncio.to_thread(import_module, "anthropic")
                from anthropic import AsyncAnthropic

                # The SDK would retry a spend limit and would not retry an error inside a stream: retries are ours.
                self._client = AsyncAnthropic(
                    api_key=self._access.api_key, base_url=self._access.base_url or None, max_retries=0
                )
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One request, the same in every attempt."""

    system: str
    prompt: str
    schema: dict[str, Any]
    most: Usage


class Claude:
    """A Writer on Anthropic's API. One a process; `for_task` gives each task its own ledger."""

    def __init__(
        self,
        access: Access,
        *,
        model: Model,
        limit: Limit,
        max_output_tokens: int = 1_500,
        patience: Patience | None = None,
    ) -> None:
        if not access.api_key:
            raise Misconfigured("Claude needs a key: set ANTHROPIC_API_KEY, or MLMESH_PROSE=template")
        self._connection = _Connection(access)
        self._model = model
        self._max_output_tokens = max_output_tokens
        self._patience = patience or Patience()
        self.ledger = Ledger(limit)

    def for_task(self, limit: Limit) -> Self:
        """The same model on the same connection with a ledger of its own."""
        sibling = copy(self)
        sibling.ledger = Ledger(limit)
        return sibling

    async def close(self) -> None:
        """Closes the connections of this and every sibling."""
        await self._connection.close()

    async def write(self, *, system: str, prompt: str, output: type[Output]) -> Output:
        """The model's answer as `output`; cancelling closes the socket.

        Raises: BudgetExceeded before a call that does not fit; Transient when the API stayed unavailable, or no place
        was free; Permanent for a refused request, a refusal or a cut answer; Misconfigured for a wrong key or model.
        """
        turn = await self._prepare(redact(system), redact(prompt), output)
        async with self._place():
            try:
                async with asyncio.timeout(self._patience.timeout_s):
                    return await self._try(turn, output)
            except TimeoutError as error:
                raise Transient(f"{self._model.id} did not answer within {self._patience.timeout_s:g} s") from error

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """One of the calls at a time. Whoever waits too long is told before a call is made, not in the middle of it."""
        places = self._connection.places
        try:
            async with asyncio.timeout(self._patience.queue_s):
                await places.acquire()
        except TimeoutError as error:
            raise Transient(f"{self._model.id} was busy with other calls for {self._patience.queue_s:g} s") from error
        try:
            yield
        finally:
            places.release()

    async def _prepare(self, system: str, prompt: str, output: type[BaseModel]) -> _Turn:
        await self._connection.client()
        from anthropic import transform_schema

        schema = transform_schema(output)
        size = len(system.encode()) + len(prompt.encode()) + len(str(schema))
        return _Turn(system, prompt, schema, self._usage(size // _BYTES_A_TOKEN + 1, self._max_output_tokens))

    async def _try(self, turn: _Turn, output: type[Output]) -> Output:
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return _parsed(await self._call(turn), output)
            except LlmUnavailable as error:
                too_long = (error.retry_after_s or 0) > self._patience.timeout_s
                if too_long or attempt == self._patience.attempts:
                    raise
                await asyncio.sleep(self._delay_s(attempt, error.retry_after_s))
        raise AssertionError("a Patience has at least one attempt")

    async def _call(self, turn: _Turn) -> "Message":
        """One streamed request. A stream that breaks is settled as reserved: what it used is unknown."""
        import httpx2
        from anthropic import APIConnectionError, APIStatusError

        self.ledger.reserve(turn.most)
        used = Usage(0, 0.0)
        try:
            async with (await self._connection.client()).messages.stream(
                model=self._model.id,
                max_tokens=self._max_output_tokens,
                system=turn.system,
                messages=_messages(turn.prompt),
                output_config=_output_config(turn.schema),
            ) as stream:
                used = turn.most
                message = await stream.get_final_message()
                if message.stop_reason is not None:
                    used = self._used(message)
                return message
        except APIStatusError as error:
            raise self._failure(error) from error
        except (APIConnectionError, httpx2.TransportError) as error:
            raise LlmUnavailable(f"the connection to {self._model.id} failed: {type(error).__name__}") from error
        finally:
            self.ledger.settle(turn.most, used)

    def _used(self, message: "Message") -> Usage:
        usage = message.usage
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        return self._usage(usage.input_tokens + cached, usage.output_tokens)

    def _usage(self, tokens_in: int, tokens_out: int) -> Usage:
        cost = (tokens_in * self._model.input_usd + tokens_out * self._model.output_usd) / 1e6
        return Usage(tokens_in + tokens_out, cost)

    def _delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        ceiling = min(self._patience.base_delay_s * 2 ** (attempt - 1), _LONGEST_DELAY_S)
        return max(retry_after_s or 0.0, random.uniform(0, ceiling))  # noqa: S311 - jitter is no secret

    def _failure(self, error: "APIStatusError") -> MeshError:
        """What a refused request means. Decided by the error's type: an error inside a stream has status 200."""
        kind = error.type or f"HTTP {error.status_code}"
        what = f"{self._model.id}: {kind}: {redact(error.api_message or 'no message')}"
        if (error.error_code or "").endswith("spend_limit_reached") or error.type == "billing_error":
            return BudgetExceeded(f"{what}; raise the spend limit of the organisation, or set MLMESH_PROSE=template")
        if error.type in _WRONG_SETTINGS:
            return Misconfigured(f"{what}; check ANTHROPIC_API_KEY and MLMESH_PROSE_MODEL")
        if not _worth_retrying(error):
            return Permanent(what)
        if error.response.headers.get("x-should-retry") == "false":
            return Transient(what)
        return LlmUnavailable(what, retry_after_s=_seconds(error.response.headers.get("retry-after")))


def _messages(prompt: str) -> "list[MessageParam]":
    return [{"role": "user", "content": prompt}]


def _output_config(schema: dict[str, Any]) -> "OutputConfigParam":
    return {"format": {"type": "json_schema", "schema": schema}}


def _worth_retrying(error: "APIStatusError") -> bool:
    if error.type is not None:
        return error.type in _RETRIED_TYPES
    return error.status_code in _RETRIED_STATUSES or error.status_code >= 500


def _parsed(message: "Message", output: type[Output]) -> Output:
    """The answer in its shape. A stream that ended early and JSON that does not fit are worth another turn."""
    match message.stop_reason:
        case "end_turn" | "stop_sequence":
            pass
        case None:
            raise LlmUnavailable(f"the stream of {message.model} ended before its end")
        case "refusal":
            raise Permanent(f"{message.model} refused to write this")
        case "max_tokens" | "model_context_window_exceeded":
            raise Permanent(f"the answer of {message.model} was cut ({message.stop_reason})")
        case reason:
            raise Permanent(f"{message.model} stopped for {reason!r}, which a single answer never should")
    text = "".join(block.text for block in message.content if block.type == "text")
    try:
        return output.model_validate_json(text)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) or "the text" for problem in error.errors())
        raise LlmUnavailable(f"the answer of {message.model} does not fit {output.__name__}: {fields}") from error


def _seconds(header: str | None) -> float | None:
    """`retry-after` in its form of seconds; its form of a date is not used by the API."""
    try:
        return float(header) if header else None
    except ValueError:
        return None
