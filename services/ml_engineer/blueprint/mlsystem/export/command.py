"""The command `export FORM`: a version in the terms of another platform.

Owns the table of forms and where each goes by default. A form is written from the version's files in the registry,
so that an export never waits for training and is the same wherever it is made.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Callable
from typing import Final, cast

from mlsystem.stages import Workspace

FORMS: Final = {
    "feast": "mlsystem.export.feast:export_feast",
    "lineage": "mlsystem.export.lineage_command:export_lineage",
    "mlflow": "mlsystem.export.mlflow:export_mlflow",
}
"""`module:function` of every form; called with the workspace and the options `version` and `to`."""


def export(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `export FORM [--version V] [--to WHERE]`: return what was written, and where."""
    module, function = FORMS[options.form].split(":")
    run = cast(
        "Callable[[Workspace, Namespace], dict[str, object]]", getattr(importlib.import_module(module), function)
    )
    return {"form": options.form, **run(workspace, options)}
