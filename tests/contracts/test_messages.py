"""Rules that hold for every message: strict when we build it, open when we read it, exact on the way."""

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from contracts import asyncapi
from contracts.events import EVENTS, Progressed, QuestionsAnswered, TaskSubmitted
from contracts.message import ContractError, Message
from tests.contracts.strategies import instances, leaves

MESSAGES = sorted(leaves(), key=lambda model: model.__name__)
every_message = pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
any_message = st.sampled_from(MESSAGES).flatmap(instances)


def _from_a_newer_publisher(value: object) -> object:
    """JSON of the message with one unknown field more in each of its parts."""
    if isinstance(value, BaseModel):
        fields = {name: part for name, part in value if part is not None}
        known = {name: _from_a_newer_publisher(part) for name, part in fields.items()}
        return {**known, "added_in_a_later_version": {"x": [1]}}
    if isinstance(value, tuple):
        return [_from_a_newer_publisher(part) for part in cast("tuple[object, ...]", value)]
    return TypeAdapter(object).dump_python(value, mode="json")


@given(any_message)
def test_a_message_comes_back_from_its_bytes(message: Message) -> None:
    """`from_bytes` is the inverse of `to_bytes` for whatever a message can hold."""
    assert type(message).from_bytes(message.to_bytes()) == message


@given(any_message)
def test_the_same_message_always_has_the_same_bytes(message: Message) -> None:
    """Re-encoding what was decoded changes nothing, so digests of bodies can be compared."""
    assert type(message).from_bytes(message.to_bytes()).to_bytes() == message.to_bytes()


@given(any_message)
def test_unknown_fields_are_ignored_on_reading(message: Message) -> None:
    """A newer publisher does not poison an older consumer, at the top or in a part."""
    newer = json.dumps(_from_a_newer_publisher(message)).encode()

    assert type(message).from_bytes(newer) == message


@every_message
def test_unknown_fields_are_refused_on_building(model: type[Message]) -> None:
    """A typing error of ours is an error, not a field that nobody reads."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate({"typed_wrong": 1})


@every_message
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"a":1,}', b"{}" * 2])
def test_bytes_that_are_no_such_message_are_a_contract_error(model: type[Message], body: bytes) -> None:
    """Whatever arrives, the reader gets one kind of error."""
    with pytest.raises(ContractError, match=f"not a {model.__name__}"):
        model.from_bytes(body)


def test_a_contract_error_names_the_fields_and_not_their_values() -> None:
    """The reason goes to dead letters and logs: values may be secrets."""
    with pytest.raises(ContractError) as caught:
        TaskSubmitted.from_bytes(b'{"request":["sk-secret"],"approval":"sk-secret"}')

    assert caught.value.reason == (
        "not a TaskSubmitted: request: Input should be a valid string; approval: Input should be 'auto' or 'design'"
    )


@every_message
def test_every_message_is_published(model: type[Message]) -> None:
    """A message that travels nowhere in the table of channels is either missing there or not needed."""
    assert model in asyncapi.messages()


@every_message
def test_every_field_is_described(model: type[Message]) -> None:
    """Attribute docstrings become the descriptions in the published schemas."""
    undescribed = [name for name, field in model.model_fields.items() if not field.description]

    inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", {})}
    assert [name for name in undescribed if name not in inherited] == []


def test_answers_are_read_from_a_map_as_well_as_from_a_list() -> None:
    """People write `{"nfr.latency": "20 ms"}`; programs write a list."""
    short = b'{"answers":{"nfr.latency":"20 ms","scale.rate":50}}'
    long = b'{"answers":[{"question_id":"nfr.latency","value":"20 ms"},{"question_id":"scale.rate","value":50}]}'

    assert QuestionsAnswered.from_bytes(short) == QuestionsAnswered.from_bytes(long)


def test_a_bare_request_is_a_whole_task() -> None:
    """What a person would publish by hand is enough: everything else has a default."""
    body = b'{"request": "predict churn", "workspace": "/shop"}'

    assert TaskSubmitted.from_bytes(body) == TaskSubmitted(request="predict churn", workspace="/shop")


@pytest.mark.parametrize("request_text", ["", " ", "\n\t"])
def test_a_request_that_says_nothing_is_refused(request_text: str) -> None:
    """A blank request cannot be worked on; the reason says what is wanted."""
    with pytest.raises(ContractError, match="request"):
        TaskSubmitted.from_bytes(json.dumps({"request": request_text}).encode())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_carry_is_refused_on_building(number: float) -> None:
    """JSON has no NaN: written as null it would make the whole message unreadable for everyone."""
    with pytest.raises(ValidationError):
        Progressed(step="train", metrics={"loss": number})


def test_every_event_has_its_own_body() -> None:
    """A fold reads what happened from the type of the body: no two events share one."""
    assert len(set(EVENTS.values())) == len(EVENTS)
