"""Hypothesis strategies for every message of the contracts, derived from the models themselves.

A new message or field is covered without a line here. Strings hold any character that UTF-8 can carry,
numbers are finite. What a model's own validators refuse is drawn again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import AwareDatetime, BaseModel, JsonValue, ValidationError

from contracts.message import Message

M = TypeVar("M", bound=BaseModel)

texts = st.text(max_size=40)
moments = st.datetimes(timezones=st.just(UTC))
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)

_PLAIN: Mapping[object, SearchStrategy[Any]] = {
    str: texts,
    bool: st.booleans(),
    type(None): st.none(),
    datetime: moments,
    AwareDatetime: moments,
    JsonValue: json_values,
}


def leaves(base: type[Message] = Message) -> tuple[type[Message], ...]:
    """Every message that the contracts define: the subclasses that nothing is derived from."""
    children = base.__subclasses__()
    found = (leaf for child in children for leaf in leaves(child)) if children else (base,)
    return tuple(model for model in found if model.__module__.startswith("contracts."))


@cache
def instances(model: type[M]) -> SearchStrategy[M]:
    """Valid instances of `model`."""
    fields = {name: _values(field.annotation, field.metadata) for name, field in model.model_fields.items()}
    needed = {name: fields.pop(name) for name, field in model.model_fields.items() if field.is_required()}
    drawn: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(needed, optional=fields)

    def built(given: dict[str, Any]) -> M:
        try:
            return model.model_validate(given)
        except ValidationError:
            return reject()

    return drawn.map(built)


def _values(annotation: Any, metadata: Sequence[Any] = ()) -> SearchStrategy[Any]:  # noqa: PLR0911 - a case for each kind of type
    limits = _limits(metadata)
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if "pattern" in limits:
        return cast("SearchStrategy[str]", st.from_regex(limits["pattern"], fullmatch=True))
    if annotation is str:
        return st.text(min_size=limits.get("min_length", 0), max_size=40)
    if annotation is int or annotation is float:
        return _numbers(annotation, limits)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is None and issubclass(annotation, BaseModel):
        return instances(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in {Union, UnionType}:
        return st.one_of(*(_values(argument, metadata) for argument in arguments))
    return _many(origin, arguments, limits)


def _many(origin: Any, arguments: tuple[Any, ...], limits: Mapping[str, Any]) -> SearchStrategy[Any]:
    if origin is dict:
        return st.dictionaries(texts, _values(arguments[1]), max_size=3)
    if origin in {tuple, list}:
        items = st.lists(_values(arguments[0]), min_size=limits.get("min_length", 0), max_size=3)
        return items.map(tuple) if origin is tuple else items
    raise AssertionError(f"no strategy for {origin} {arguments}: add one")


def _limits(metadata: Sequence[Any]) -> dict[str, Any]:
    names = ("pattern", "min_length", "ge", "gt", "le")
    found = {name: getattr(item, name, None) for name in names for item in metadata if hasattr(item, name)}
    return {name: value for name, value in found.items() if value is not None}


def _numbers(kind: Any, limits: Mapping[str, Any]) -> SearchStrategy[Any]:
    low, high = limits.get("ge", limits.get("gt")), limits.get("le")
    if kind is int:
        return st.integers(-(2**63) if low is None else low + ("gt" in limits), 2**63 - 1 if high is None else high)
    return st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min="gt" in limits)
