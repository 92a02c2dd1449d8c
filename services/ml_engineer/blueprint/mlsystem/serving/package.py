"""The files of one version, as they are stored: in a directory, or in the registry.

Owns their names and reading them. Leaves making them to `packaging`, and what they mean to `model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem.errors import ServingError
from mlsystem.schema import Schema

if TYPE_CHECKING:
    from mlsystem.registry import Registry

MODEL: Final = "model.onnx"
SCHEMA: Final = "schema.json"
REFERENCE: Final = "reference.json"
"""Up to 64 rows of the source, as JSON objects with every column."""
METRICS: Final = "metrics.json"
MANIFEST: Final = "manifest.json"

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
        names = (MODEL, SCHEMA, REFERENCE, MANIFEST)
        files = {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}
        for name in (MODEL, SCHEMA):
            if name not in files:
                raise ServingError("no_package", f"{directory} holds no package: {name} is missing")
        manifest = msgspec.json.decode(files.get(MANIFEST, b"{}"), type=dict[str, Any])
        return cls(UNREGISTERED, str(manifest.get("digest", "")), files)

    @classmethod
    def stored(cls, registry: Registry, version: int) -> Package:
        """Read a version from the registry; its files are checked against their digests."""
        entry = registry.ledger().package_of(version)
        return cls(version, entry.digest, registry.files(entry))

    def reference(self) -> list[dict[str, Any]]:
        """Return the rows of the source that came along, none if none did."""
        return msgspec.json.decode(self.files.get(REFERENCE, b"[]"), type=list[dict[str, Any]])

    def schema(self) -> Schema:
        """Return the contract; ServingError if the file is none."""
        try:
            return msgspec.json.decode(self.files[SCHEMA], type=Schema)
        except msgspec.DecodeError as error:
            raise ServingError("bad_package", f"{SCHEMA} of version {self.version} is no contract: {error}") from error
