"""Puts the engine `mlsystem` beside `contracts` and `services` in mlmesh's wheel.

An editable install finds it through its source root instead: a copy there would hide the sources.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ENGINE = "services/ml_engineer/blueprint/mlsystem"


class BuildHook(BuildHookInterface[Any]):
    """Run by hatchling for each wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `standard` or `editable`."""
        if version == "standard":
            build_data["force_include"][ENGINE] = "mlsystem"
