"""What a command can fail with, and the exit code that follows.

```
MlsystemError            4  something went wrong; the message says what to do
├── SpecError            2  system.toml or the command line is not usable
├── GateFailed           3  the model did not pass a gate
├── DataError            4  the data cannot be used as it is
├── StageMissing         4  a stage that must come first has not been run
├── RegistryError        4  the registry refuses or is damaged
├── ServingError         4  the server cannot start or does not answer
├── StateError           4  what a running system remembers cannot be read or written
└── Held                 5  a decision is left to a person
```

Every error has a `code` for programs, a `message` for people and `details` that name each single place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MlsystemError(Exception):
    """Root of the tree: `code` is stable, `message` says what to do, `details` are JSON objects.

    `result` is what the command found out before it failed; it is printed beside the error.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Iterable[Mapping[str, object]] = (),
        result: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: tuple[dict[str, object], ...] = tuple(dict(detail) for detail in details)
        self.result: dict[str, object] = dict(result or {})

    def as_json(self) -> dict[str, object]:
        """Return the error object of the output protocol."""
        return {"code": self.code, "message": self.message, "details": list(self.details)}


class SpecError(MlsystemError):
    """system.toml or the command line is not usable as written."""

    exit_code: ClassVar[int] = 2


class GateFailed(MlsystemError):  # noqa: N818 - the field's word
    """The model did not pass a gate that decides whether it may go on."""

    exit_code: ClassVar[int] = 3


class DataError(MlsystemError):
    """The data cannot be used as it is."""


class StageMissing(MlsystemError):  # noqa: N818 - states a fact, not a fault of the stage
    """A stage that must come first has not been run."""


class RegistryError(MlsystemError):
    """The registry refuses an operation, or its history does not verify."""


class ServingError(MlsystemError):
    """The server cannot start, or does not answer."""


class StateError(MlsystemError):
    """The state cannot be used: it is full, not reachable, or taken."""


class Held(MlsystemError):  # noqa: N818 - the field's word
    """A decision is left to a person."""

    exit_code: ClassVar[int] = 5
