"""The base of every message: frozen, strict when we build it, open when we read it.

A body on the wire is compact JSON with the fields in their declared order and without empty optionals, so
the same message always has the same bytes. What a newer publisher added is ignored on reading.
"""

from typing import ClassVar, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError


class ContractError(ValueError):
    """Bytes that are not the message they claim to be. `reason` says what is wrong, for a dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Value(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        populate_by_name=True,
        allow_inf_nan=False,  # JSON has no such numbers: written as null they would make the message unreadable
    )


class Message(Value):
    """A whole body. `major` is the version of its schema."""

    major: ClassVar[int] = 1

    @classmethod
    def data_schema(cls) -> str:
        """`urn:mlmesh:<Message>:<major>`, the value of ce-dataschema."""
        return f"urn:mlmesh:{cls.__name__}:{cls.major}"

    @classmethod
    def known_names(cls) -> frozenset[str]:
        """The names of its fields on the wire, other spellings included."""
        aliases = (field.validation_alias for field in cls.model_fields.values())
        spelled = [choice for alias in aliases if isinstance(alias, AliasChoices) for choice in alias.choices]
        return frozenset(cls.model_fields) | {choice for choice in spelled if isinstance(choice, str)}

    def to_bytes(self) -> bytes:
        """Compact JSON, UTF-8."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """The message in `body`; ContractError naming each field that is wrong."""
        try:
            return cls.model_validate_json(body, extra="ignore")
        except ValidationError as error:
            raise ContractError(f"not a {cls.__name__}: {_problems(error)}") from error


def _problems(error: ValidationError) -> str:
    """One clause a problem, without the offending values: they may hold anything."""
    found = [
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)[:8]
    ]
    return "; ".join(found)
