"""Renders the templates in `blueprint/render` with a dossier: relative path -> text.

The templates of `system/` lie where their files will lie; `parts/` are included by them. A name that a template uses
and nobody gave is an error, never an empty place. Leaves what may be said to `view`.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import JsonValue

from mlsystem.spec import Spec, seconds
from services.ml_engineer.documents import figures, markdown
from services.ml_engineer.documents.alerting import Alerting
from services.ml_engineer.documents.placement import Placement
from services.ml_engineer.documents.promises import Evidence
from services.ml_engineer.documents.risks import risks
from services.ml_engineer.documents.view import View
from services.ml_engineer.dossier import Dossier

_BLUEPRINT: Final = Path(__file__).parents[1] / "blueprint"
_TEMPLATES: Final = _BLUEPRINT / "render"
_SUFFIX: Final = ".j2"
_LOCKS: Final = ("requirements/serve.lock", "requirements/train.lock")
_EXPRESSION: Final = "${{"
"""What GitHub evaluates in a workflow; a file of such a name is not watched."""
_WORKFLOW_MINUTES: Final = 30
"""For everything but training: installing, measuring, tests, the image."""


def locks(wheel: str, wheel_sha256: str) -> dict[str, str]:
    """The two locks: third-party pins, and the engine's wheel in `vendor/`. An input of training: written before it."""
    pins = {name: _pins(name) for name in ("serve", "train")}
    return {
        path: _render(f"system/{path}{_SUFFIX}", pins=pins, wheel=wheel, wheel_sha256=wheel_sha256) for path in _LOCKS
    }


def render(dossier: Dossier) -> dict[str, str]:
    """Path in the system's directory -> text, of all that is written from facts; the locks are those of `locks`."""
    view = View(dossier)
    placement = Placement(view)
    given = {
        "view": view,
        "placement": placement,
        "alerting": Alerting(view.spec),
        "spec": view.spec,
        "dossier": dossier,
        "risks": risks(view),
        "evidence": Evidence(view),
    }
    wanted = (path for path in _paths() if path not in _LOCKS and _applies(path, view.spec))
    written = {path: _render(f"system/{path}{_SUFFIX}", **given) for path in wanted}
    return dict(sorted((written | locks(dossier.wheel, dossier.wheel_sha256)).items()))


def render_repository(dossier: Dossier) -> dict[str, str]:
    """Path in the workspace -> text, of what has to lie at the top of a repository: the CI workflow."""
    view = View(dossier)
    path = f".github/workflows/ml-{view.system}.yml"
    watched = [source for source in view.sources_inside if _EXPRESSION not in source]
    budget_minutes = math.ceil(seconds(view.spec.search.budget) / 60)
    return {
        path: _render(
            f"repository/workflow.yml{_SUFFIX}",
            view=view,
            placement=Placement(view),
            spec=view.spec,
            dossier=dossier,
            directory=dossier.directory,
            paths=[f"{dossier.directory}/**", *watched, path],
            minutes=_WORKFLOW_MINUTES + budget_minutes,
        )
    }


def _applies(path: str, spec: Spec) -> bool:
    """Whether the spec wants a file."""
    return spec.export.kserve or not path.startswith("deploy/kserve/")


def _paths() -> list[str]:
    root = _TEMPLATES / "system"
    files = (path.relative_to(root).as_posix() for path in root.rglob(f"*{_SUFFIX}"))
    return sorted(path.removesuffix(_SUFFIX) for path in files)


def _pins(name: str) -> str:
    return (_BLUEPRINT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def _render(template: str, **given: object) -> str:
    return _environment().get_template(template).render(**given)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is Markdown, YAML and make; every value goes through a filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _json(value: JsonValue) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _json_line(value: JsonValue) -> str:
    """A value in one line, as YAML reads it too."""
    return json.dumps(value, ensure_ascii=False)


_FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "cell": markdown.cell,
    "cell_code": markdown.cell_code,
    "cell_names": markdown.cell_names,
    "code": markdown.code,
    "line": markdown.one_line,
    "names": markdown.names,
    "text": markdown.text,
    "figure": figures.figure,
    "score": figures.score,
    "percent": figures.percent,
    "times": figures.times,
    "json": _json,
    "json_line": _json_line,
}
