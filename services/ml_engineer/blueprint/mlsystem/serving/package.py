"""The files of one version, as they are stored: in a directory, or in the registry.

Owns their names and reading them. Leaves making them to `packaging`, and what they mean to `model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from mlsystem.errors import ServingError
from mlsystem.hooks import HOOKS_FILE
from mlsystem.schema import Schema

if TYPE_CHECKING:
    from mlsystem.registry import Registry

MODEL: Final = "model.onnx"
SCHEMA: Final = "schema.json"
REFERENCE: Final = "reference.json"
"""Up to 64 rows of the source, as JSON objects with every column."""
METRICS: Final = "metrics.json"
MANIFEST: Final = "manifest.json"
PROFILE: Final = "profile.json"
"""How features and answers were distributed in training; absent from older packages."""

_Content = TypeVar("_Content")

UNREGISTERED: Final = 0
"""Version of a package that is served from a directory and is in no registry."""


@dataclass(frozen=True, slots=True)
class Package:
    """The files of one version, as they are stored."""

    version: int
    digest: str
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, directory: Path) -> Package:
        """Read a package from a directory; ServingError if there is no model or no contract in it."""
        names = (MODEL, SCHEMA, REFERENCE, MANIFEST, PROFILE, HOOKS_FILE)
        files = {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}
        for name in (MODEL, SCHEMA):
            if name not in files:
                raise ServingError("no_package", f"{directory} holds no package: {name} is missing")
        read = cls(UNREGISTERED, "", files)
        return replace(read, digest=str(read._decoded(MANIFEST, dict[str, Any], {}).get("digest", "")))

    @classmethod
    def stored(cls, registry: Registry, version: int) -> Package:
        """Read a version from the registry; its files are checked against their digests."""
        entry = registry.ledger().package_of(version)
        return cls(version, entry.digest, registry.files(entry))

    def reference(self) -> list[dict[str, Any]]:
        """Return the rows of the source that came along, none if none did."""
        return self._decoded(REFERENCE, list[dict[str, Any]], [])

    def schema(self) -> Schema:
        """Return the contract; ServingError if the file is none."""
        return self._decoded(SCHEMA, Schema)

    def _decoded(self, name: str, kind: type[_Content], default: _Content | None = None) -> _Content:
        """Return the content of a JSON file, `default` if the file did not come along."""
        if default is not None and name not in self.files:
            return default
        try:
            return msgspec.json.decode(self.files[name], type=kind)
        except msgspec.DecodeError as error:
            raise ServingError("bad_package", f"{name} of version {self.version} cannot be read: {error}") from error
