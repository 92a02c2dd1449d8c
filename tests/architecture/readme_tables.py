"""The tables of READMEs that code knows better than people: services, subjects, settings, promises, crash points.

`python -m tests.architecture.readme_tables --write` fills them in between `<!-- table:NAME -->` and
`<!-- /table -->`; without `--write` it exits 1 and names the tables that are out of date.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from contracts.channels import CHANNELS, Channel
from contracts.permissions import ROLES
from contracts.permissions import permissions as permissions_of
from services._runtime.settings import Settings
from tests.architecture.invariants import INVARIANTS
from tests.architecture.tree import ROOT, SERVICES, spelled
from tests.runtime.crash_points import POINTS

README = ROOT / "README.md"
_ANGLES = str.maketrans("{}", "<>")
_PERMISSIONS = {role: permissions_of(role) for role in ROLES}


def services() -> str:
    """What runs, what it is for, what it hears and how it is run alone."""
    rows = [
        (
            f"[{spelled(service)}](services/{service}/README.md)",
            _sentence(importlib.import_module(f"services.{service}").__doc__),
            f"`python -m services.{service}`",
        )
        for service in SERVICES
    ]
    return _table(("service", "what it does", "alone"), rows)


def subjects() -> str:
    """Every subject with its body, who publishes, who consumes, and the stream that keeps it."""
    rows = [
        (
            f"`{channel.address.translate(_ANGLES)}`",
            _bodies(channel),
            ", ".join(channel.senders),
            ", ".join(channel.receivers),
            channel.stream or (f"answered with {channel.reply.__name__}" if channel.reply else "not stored"),
        )
        for channel in CHANNELS
    ]
    return _table(("subject", "body", "published by", "consumed by", "kept in"), rows)


def settings() -> str:
    """Every variable, its default and its meaning."""
    rows = [
        (f"`{variable(name, field)}`", f"`{_default(field)}`" if _default(field) else "", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "default", "meaning"), rows)


def invariants() -> str:
    """Every promise of the runtime with its number and the tests that prove it."""
    rows = [
        (str(number), promise.text, "<br>".join(f"`{test}`" for test in promise.tests))
        for number, promise in enumerate(INVARIANTS, start=1)
    ]
    return _table(("", "what holds", "proved by"), rows)


def crash_points() -> str:
    """Every point at which a process is killed, what is there afterwards, and what is done again."""
    rows = [(point.role, point.where, point.survives, point.again) for point in POINTS]
    return _table(("process", "killed", "what survives", "what repeats"), rows)


def permissions() -> str:
    """Every role with what it may publish and what it may hear, as the server's configuration has it."""
    rows = [(role, _allowed(may.publish, may.never), _allowed(may.subscribe, ())) for role, may in _PERMISSIONS.items()]
    return _table(("role", "publishes", "hears"), rows)


TABLES: dict[str, Callable[[], str]] = {"services": services, "subjects": subjects, "settings": settings}
"""Of the README at the top."""
DOCUMENTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: TABLES,
    ROOT / "deploy" / "README.md": {"permissions": permissions},
    ROOT / "services" / "_runtime" / "README.md": {"invariants": invariants, "crash-points": crash_points},
}
"""Document -> its tables."""


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{Settings.model_config.get('env_prefix', '')}{name}".upper()


def written(readme: str, name: str) -> str:
    """The text between the markers of a table. Raises LookupError when the README has no such markers."""
    match = _markers(name).search(readme)
    if match is None:
        raise LookupError(f"the README has no <!-- table:{name} --> ... <!-- /table -->")
    return match.group(2)


def filled(readme: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A README with every table as the code says."""
    for name, table in tables.items():
        written(readme, name)
        text = f"\n{table()}\n"
        readme = _markers(name).sub(lambda match, text=text: f"{match.group(1)}{text}{match.group(3)}", readme)
    return readme


def _markers(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table:{name} -->)(.*?)(<!-- /table -->)", re.DOTALL)


def _bodies(channel: Channel) -> str:
    """The bodies by name; a doorbell carries whatever rang it."""
    return channel.messages[0].__name__ if len(channel.messages) == 1 else "that of the waking event"


def _allowed(subjects: Iterable[str], never: Iterable[str]) -> str:
    listed = [f"`{subject}`" for subject in subjects]
    return "<br>".join([*listed, *(f"never `{subject}`" for subject in never)])


def _default(field: FieldInfo) -> str:
    default: Any = field.get_default()
    revealed = default.get_secret_value() if hasattr(default, "get_secret_value") else default
    if isinstance(revealed, float):
        return f"{revealed:g}" if abs(revealed) < 1e5 else f"{revealed:.0f}"
    return "" if revealed is None else str(revealed)


def _sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0]


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main() -> int:
    """Checks, or with `--write` fills in."""
    outdated: list[str] = []
    for document, tables in DOCUMENTS.items():
        readme = document.read_text(encoding="utf-8")
        if "--write" in sys.argv[1:]:
            document.write_text(filled(readme, tables), encoding="utf-8")
        else:
            outdated += [name for name, table in tables.items() if written(readme, name) != f"\n{table()}\n"]
    if outdated:
        sys.stderr.write(f"out of date: {', '.join(outdated)}\nrun: python -m {__spec__.name} --write\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
