"""The seam to Claude against a server that validates requests like Anthropic's."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, Field

from services._runtime.errors import BudgetExceeded, MeshError, Misconfigured, Permanent, Transient
from services._runtime.llm import (
    MODELS,
    Access,
    Claude,
    Ledger,
    Limit,
    LlmUnavailable,
    Model,
    Patience,
    Usage,
    resolve,
)
from tests.fakes.anthropic_api import KEY, FakeAnthropic, Refusal, Reply, says

HAIKU = MODELS["haiku"]
PLENTY = Limit(tokens=100_000, cost_usd=1.0)


class Fact(BaseModel):
    text: str = Field(min_length=1, max_length=400)
    refs: list[str] = Field(default_factory=list)


class Answer(BaseModel):
    title: str
    facts: list[Fact]


ANSWER = Answer(title="Übersicht", facts=[Fact(text='a "quoted"\nline', refs=["t/1/2"])])
SPOKEN = says(ANSWER.model_dump_json())


@asynccontextmanager
async def claude(fake: FakeAnthropic, *, limit: Limit = PLENTY, **given: Any) -> AsyncGenerator[Claude]:
    """Claude on the fake, quick to retry."""
    patience = Patience(base_delay_s=0.001, timeout_s=given.get("timeout_s", 20), queue_s=given.get("queue_s", 5))
    access = Access(api_key=given.get("key", KEY), base_url=fake.url)
    model = resolve(given.get("model", "haiku"))
    writer = Claude(access, model=model, limit=limit, max_output_tokens=1_000, patience=patience)
    try:
        yield writer
    finally:
        await writer.close()


async def ask(writer: Claude, prompt: str = "Go.") -> Answer:
    return await writer.write(system="Be brief.", prompt=prompt, output=Answer)


async def test_an_answer_comes_back_in_its_shape_and_is_accounted() -> None:
    """One streamed request with a schema the API accepts; tokens, cost and calls are settled as reported."""
    with FakeAnthropic(SPOKEN) as fake:
        async with claude(fake) as writer:
            answer = await ask(writer)
    assert answer == ANSWER
    (request,) = fake.requests
    assert (request["model"], request["stream"], request["max_tokens"]) == ("claude-haiku-5-5", True, 1_000)
    assert request["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert (writer.ledger.tokens, writer.ledger.calls) == (160, 1)
    assert writer.ledger.cost_usd == pytest.approx((120 * 1.0 + 40 * 5.0) / 1e6)


async def test_secrets_do_not_leave_in_a_prompt() -> None:
    """What is sent is redacted."""
    secret = "sk-ant-" + "api03-" + "a1B2c3D4" * 4
    with FakeAnthropic(SPOKEN) as fake:
        async with claude(fake) as writer:
            await ask(writer, f"The key is {secret}.")
    assert secret not in json.dumps(fake.requests)
    assert fake.requests[0]["messages"][0]["content"] == "The key is [redacted anthropic key]."


@pytest.mark.parametrize(
    "first",
    [
        Refusal(529, "overloaded_error"),
        Refusal(500, "api_error"),
        Refusal(429, "rate_limit_error", headers={"retry-after": "0"}),
        Refusal(502, None),
        Reply(content=SPOKEN.content, until="error"),
        Reply(content=SPOKEN.content, until="cut"),
        says("not json"),
        says('{"title": "x"}'),
    ],
    ids=["overloaded", "api error", "rate limit", "proxy", "error in a 200", "cut stream", "no JSON", "other JSON"],
)
async def test_a_turn_that_may_work_later_is_tried_again(first: Reply | Refusal) -> None:
    """Retries go by the error's type, so an error inside a stream with status 200 counts too."""
    with FakeAnthropic(first, SPOKEN) as fake:
        async with claude(fake) as writer:
            assert await ask(writer) == ANSWER
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refusal(429, "rate_limit_error", error_code="enforced_spend_limit_reached"), BudgetExceeded),
        (Refusal(429, "rate_limit_error", error_code="contract_spend_limit_reached"), BudgetExceeded),
        (Refusal(402, "billing_error"), BudgetExceeded),
        (Refusal(403, "permission_error"), Misconfigured),
        (Refusal(400, "invalid_request_error"), Permanent),
        (Refusal(500, "api_error", headers={"x-should-retry": "false"}), Transient),
        (Refusal(429, "rate_limit_error", headers={"retry-after": "3600"}), LlmUnavailable),
        (says("", stop_reason="refusal"), Permanent),
        (says('{"title"', stop_reason="max_tokens"), Permanent),
        (says("", stop_reason="pause_turn"), Permanent),
    ],
)
async def test_a_turn_that_cannot_work_is_not_tried_again(refusal: Reply | Refusal, error: type[MeshError]) -> None:
    """A spend limit is a 429 that no retry can cure; so are a refused key, a bad request and a cut answer."""
    with FakeAnthropic(refusal, SPOKEN) as fake:
        async with claude(fake) as writer:
            with pytest.raises(error):
                await ask(writer)
    assert len(fake.requests) == 1


async def test_an_api_that_stays_away_is_given_up_after_three_attempts() -> None:
    """The last failure is raised as transient."""
    with FakeAnthropic(*[Refusal(529, "overloaded_error", "busy")] * 4) as fake:
        async with claude(fake) as writer:
            with pytest.raises(LlmUnavailable, match="overloaded_error: busy"):
                await ask(writer)
    assert len(fake.requests) == 3


async def test_no_server_at_all_is_transient() -> None:
    """A refused connection is retried and then told."""
    with FakeAnthropic() as fake:
        pass
    async with claude(fake) as writer:
        with pytest.raises(Transient, match="connection to claude-haiku-5-5 failed"):
            await ask(writer)


@pytest.mark.parametrize(
    ("given", "words"), [({"key": "other"}, "ANTHROPIC_API_KEY"), ({"model": "claude-none-1"}, "MLMESH_PROSE_MODEL")]
)
async def test_a_wrong_key_or_model_says_which_setting_to_look_at(given: dict[str, Any], words: str) -> None:
    """Misconfigured, and the setting is named."""
    with FakeAnthropic(SPOKEN) as fake:
        async with claude(fake, **given) as writer:
            with pytest.raises(Misconfigured, match=words):
                await ask(writer)
    assert fake.requests == []


@pytest.mark.parametrize("limit", [Limit(tokens=1_000, cost_usd=1.0), Limit(tokens=100_000, cost_usd=0.001)])
async def test_a_call_that_does_not_fit_the_limit_is_never_made(limit: Limit) -> None:
    """The most a call can use is reserved first, in tokens and in money."""
    with FakeAnthropic(SPOKEN) as fake:
        async with claude(fake, limit=limit) as writer:
            with pytest.raises(BudgetExceeded):
                await ask(writer)
    assert fake.requests == []
    assert writer.ledger.calls == 0


async def test_a_broken_stream_is_charged_as_reserved_and_a_refused_request_not_at_all() -> None:
    """What a broken stream used is unknown, so the reservation stands."""
    with FakeAnthropic(Refusal(529, "overloaded_error"), Reply(content=SPOKEN.content, until="cut"), SPOKEN) as fake:
        async with claude(fake) as writer:
            await ask(writer)
    assert writer.ledger.calls == 3
    assert 1_160 < writer.ledger.tokens < 1_700


async def test_each_task_has_its_own_ledger_on_one_connection() -> None:
    """What one task used does not count for another."""
    with FakeAnthropic(SPOKEN, SPOKEN, SPOKEN) as fake:
        async with claude(fake) as writer:
            one, other = writer.for_task(PLENTY), writer.for_task(PLENTY)
            await ask(one)
            await asyncio.gather(ask(other), ask(other))
    assert (writer.ledger.calls, one.ledger.calls, other.ledger.calls) == (0, 1, 2)


async def test_cancelling_closes_the_socket() -> None:
    """The server sees the client go, and the reservation is settled."""
    with FakeAnthropic(Reply(content=SPOKEN.content, until="hang")) as fake:
        async with claude(fake) as writer:
            asking = asyncio.create_task(ask(writer))
            await asyncio.to_thread(fake.streaming.wait, 10)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(fake.disconnected.wait, 10)
    assert writer.ledger.calls == 1


async def test_silence_ends_with_the_patience() -> None:
    """A whole write is bounded, retries included; the socket is closed then."""
    await asyncio.to_thread(import_module, "anthropic")
    with FakeAnthropic(Reply(content=SPOKEN.content, until="hang")) as fake:
        async with claude(fake, timeout_s=0.5) as writer:
            with pytest.raises(Transient, match=r"did not answer within 0\.5 s"):
                await ask(writer)
            assert await asyncio.to_thread(fake.disconnected.wait, 10)


async def test_whoever_finds_no_place_in_time_is_told_before_a_call_is_made() -> None:
    """Two calls at a time: a third uses up none of its time in the queue and is never cut off in the middle."""
    hangs = Reply(content=SPOKEN.content, until="hang")
    with FakeAnthropic(hangs, hangs, SPOKEN) as fake:
        async with claude(fake, queue_s=0.2) as writer:
            others = [asyncio.create_task(ask(writer)) for _ in range(2)]
            await asyncio.to_thread(fake.streaming.wait, 10)
            while len(fake.requests) < 2:  # noqa: ASYNC110 - the fake's thread
                await asyncio.sleep(0.01)
            third = writer.for_task(PLENTY)
            with pytest.raises(Transient, match=r"claude-haiku-5-5 was busy with other calls for 0\.2 s"):
                await ask(third)
            assert (third.ledger.calls, len(fake.requests)) == (0, 2)
            others[0].cancel()
            assert await ask(third) == ANSWER
            others[1].cancel()
            await asyncio.gather(*others, return_exceptions=True)


def test_reservations_that_are_open_at_the_same_time_count_together() -> None:
    """Two calls cannot both take the last tokens."""
    ledger = Ledger(Limit(tokens=100, cost_usd=1.0))
    most = Usage(tokens=60, cost_usd=0.1)
    ledger.reserve(most)
    with pytest.raises(BudgetExceeded, match="60 tokens does not fit"):
        ledger.reserve(most)
    ledger.settle(most, Usage(tokens=10, cost_usd=0.01))
    ledger.reserve(most)
    assert (ledger.tokens, ledger.cost_usd, ledger.calls) == (10, 0.01, 1)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("sonnet", MODELS["sonnet"]),
        ("claude-opus-5-5", MODELS["opus"]),
        ("claude-new-9", Model("claude-new-9", 5.0, 25.0)),
    ],
)
def test_a_model_is_an_alias_or_an_id(name: str, model: Model) -> None:
    """An id that is not in the table costs what the dearest costs."""
    assert resolve(name) == model


def test_an_unknown_alias_names_the_known_ones() -> None:
    """The message says what to write instead."""
    with pytest.raises(Misconfigured, match="haiku, sonnet, opus"):
        resolve("gpt")


def test_no_key_is_told_before_anything_else() -> None:
    """Claude without a key cannot be made."""
    with pytest.raises(Misconfigured, match="ANTHROPIC_API_KEY"):
        Claude(Access(api_key=""), model=HAIKU, limit=PLENTY)


def test_a_key_is_never_shown() -> None:
    """The access object can stand in a log line."""
    assert "s3cret" not in repr(Access(api_key="s3cret"))


def test_the_sdk_is_imported_at_the_first_call_only() -> None:
    """Importing the seam costs neither its second nor its 40 MB."""
    code = (
        "import sys, services._runtime.llm; print(any(m.split('.')[0] in {'anthropic', 'httpx2'} for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


GOOD: dict[str, Any] = {"model": HAIKU.id, "max_tokens": 10, "messages": [{"role": "user", "content": "Go."}]}
CALL: dict[str, Any] = {"type": "tool_use", "id": "tu_1", "name": "Read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "tu_1", "content": "x"}


def post(fake: FakeAnthropic, body: object, *, key: str = KEY) -> int:
    """The status that the fake answers with."""
    connection = HTTPConnection(urlsplit(fake.url).netloc, timeout=10)
    try:
        connection.request(
            "POST", "/v1/messages", json.dumps(body), {"x-api-key": key, "anthropic-version": "2026-10-21"}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_fake_refuses_what_the_api_refuses() -> None:
    """The fake proves something only as long as it is as strict as the API."""
    user = GOOD["messages"]
    called: list[dict[str, Any]] = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": [CALL]}]
    bad_schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}
    bodies: list[tuple[int, object]] = [
        (200, GOOD),
        (200, {**GOOD, "messages": [*called, {"role": "user", "content": [RESULT]}]}),
        (400, {**GOOD, "temperature": 0}),
        (400, {**GOOD, "max_tokens": 0}),
        (400, {**GOOD, "messages": []}),
        (400, {**GOOD, "messages": [{"role": "assistant", "content": "Hi."}]}),
        (400, {**GOOD, "messages": [{"role": "user", "content": " "}]}),
        (400, {**GOOD, "messages": [{"role": "system", "content": "x"}]}),
        (400, {**GOOD, "messages": called}),
        (400, {**GOOD, "messages": [*called, {"role": "user", "content": "and?"}]}),
        (400, {**GOOD, "messages": [{"role": "user", "content": [RESULT]}]}),
        (400, {**GOOD, "output_config": {"format": {"type": "json_schema", "schema": bad_schema}}}),
        (404, {**GOOD, "model": "claude-none-1"}),
        (400, {"model": HAIKU.id, "messages": user}),
        (400, []),
    ]
    with FakeAnthropic(*[says("Hi.")] * len(bodies)) as fake:
        assert [post(fake, body) for _, body in bodies] == [status for status, _ in bodies]
        assert post(fake, GOOD, key="other") == 401
