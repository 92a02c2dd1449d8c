"""Writes a system's directory, and tells which files a task changed: what the report and the delivery list.

Files are written by rename, so a killed process leaves none half-written; writing the same again changes
nothing. What an owner has edited is never written over: `vendor/delivered.json` knows every file as it was
delivered, and where it differs ours goes beside it as `<name>.new`. Left out: what the documents say (documents/)
and what the engine writes itself.
"""

import contextlib
import functools
import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, cast

import tomlkit
from pydantic import JsonValue

from contracts.events import Artifact
from services._runtime.errors import Permanent
from services._runtime.systems import system_directory

BLUEPRINT: Final = Path(__file__).parent / "blueprint"
MANIFEST: Final = "vendor/delivered.json"
"""Path in the workspace -> sha256 of every file as it was delivered last."""
_RELEASES: Final = Path(__file__).parent / "releases.json"
BESIDE: Final = ".new"
"""Ends the name of a delivered file that lies beside one that its owner has edited."""
_UNTOLD: Final = frozenset({"__pycache__", ".pytest_cache"})
_WORKING: Final = frozenset({"registry", "work", "state", "snapshots"})
PASSING: Final = _UNTOLD | _WORKING
"""Directories of what a system works with, and of caches: nothing that is delivered."""

Kind = Literal["spec", "contract", "engine", "code", "document", "deployment", "test", "model", "lock"]


def read_spec(directory: Path) -> dict[str, JsonValue]:
    """The system.toml that stands there, empty when none does. Raises Permanent when it cannot be read."""
    file = directory / "system.toml"
    if not file.exists():
        return {}
    try:
        parsed = tomlkit.parse(file.read_text(encoding="utf-8-sig")).unwrap()
        return json.loads(json.dumps(parsed, default=str, allow_nan=False))  # a date is no value of any key
    except (ValueError, OSError) as error:
        raise Permanent(f"{file} cannot be read: {error}. Repair it, or move the directory away.") from error


def systems(workspace: Path) -> dict[str, dict[str, JsonValue]]:
    """Name -> spec of the systems that the workspace has; one that cannot be read is nobody else's trouble."""
    found: dict[str, dict[str, JsonValue]] = {}
    for file in sorted(workspace.glob("ml/*/system.toml")):
        with contextlib.suppress(Permanent):
            found[file.parent.name.replace("_", "-")] = read_spec(file.parent)
    return found


def claim_directory(workspace: Path, system: str) -> Path:
    """The system's directory, made.

    Raises: Permanent when something else stands there, a link leads out of the workspace, or nothing can be written.
    """
    directory = workspace / system_directory(system)
    if not directory.resolve().is_relative_to(workspace):
        raise Permanent(f"{directory} leads out of the workspace: remove the link, submit again")
    try:
        if directory.exists() and not (directory / "system.toml").exists() and _is_foreign(directory):
            raise Permanent(
                f"{directory} exists and is no system of ours: move it away, or name the data file differently"
            )
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(
            f"cannot write to {directory}: {error.strerror}. Grant access or free space, submit again."
        ) from error
    return directory


def _is_foreign(directory: Path) -> bool:
    """Whether somebody else's files stand there: all that we leave before system.toml is its draft."""
    return any(path.name != ".system.toml.new" for path in directory.iterdir())


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Writes texts under a directory. Raises Permanent when the disk, the permissions or a link refuse."""
    for name, text in files.items():
        _write(directory, name, text.encode())


def toml(spec: Mapping[str, JsonValue], standing: str = "") -> str:
    """The spec as system.toml; comments and the order of the file that stands there are kept."""
    document = tomlkit.parse(standing)
    _lay(document, spec)
    text = tomlkit.dumps(document)
    return text if _says(text, spec) else tomlkit.dumps(dict(spec))


def put_spec(directory: Path, spec: Mapping[str, JsonValue]) -> None:
    """system.toml, laid over the one that stands there."""
    file = directory / "system.toml"
    write(directory, {file.name: toml(spec, file.read_text(encoding="utf-8-sig") if file.exists() else "")})


def _lay(table: MutableMapping[str, Any], spec: Mapping[str, JsonValue]) -> None:
    """Makes the table say what the spec says, touching only what differs."""
    for name in [name for name in table if name not in spec]:
        del table[name]
    for name, value in spec.items():
        stands = table.get(name)
        if isinstance(value, dict) and isinstance(stands, MutableMapping):
            _lay(cast("MutableMapping[str, Any]", stands), value)
        elif name not in table or stands != value:
            table[name] = value


def _says(text: str, spec: Mapping[str, JsonValue]) -> bool:
    try:
        return tomllib.loads(text) == spec
    except tomllib.TOMLDecodeError:
        return False


def put_wheel(wheel: Path, directory: Path) -> str:
    """The engine's wheel in `vendor/`, alone; its sha256."""
    content = wheel.read_bytes()
    _write(directory, f"vendor/{wheel.name}", content)
    for other in (directory / "vendor").glob("mlsystem-*.whl"):
        if other.name != wheel.name:
            other.unlink()
    return hashlib.sha256(content).hexdigest()


def delivered_tests() -> dict[str, str]:
    """The delivered tests, in a package named after the system: two systems in one repository do not clash."""
    packages = dict.fromkeys(("__init__.py", "tests/__init__.py"), "")
    sources = sorted((BLUEPRINT / "tests").glob("*.py"))
    return packages | {f"tests/{source.name}": source.read_text(encoding="utf-8") for source in sources}


def deliver(
    workspace: Path, system: str, inside: Mapping[str, str], top: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, ...]:
    """Writes texts unless their owner has edited them; paths in the workspace of the edited ones, ours lying beside.

    `inside`: path in the system's directory -> text, `top`: path in the workspace -> text. A file that nobody
    delivered before counts as edited unless it says the same. Raises Permanent when the disk, the permissions or a
    link refuse.
    """
    place = system_directory(system)
    directory, files = workspace / place, {f"{place}/{path}": text for path, text in inside.items()} | dict(top)
    before = delivered_before(directory)
    contents = {path: text.encode() for path, text in files.items()}
    kept = tuple(
        path for path, content in contents.items() if _is_edited(workspace / path, content, _known(path, before, place))
    )
    for path, content in contents.items():
        beside = f"{path}{BESIDE}"
        _write(workspace, beside if path in kept else path, content)
        if path not in kept:
            (workspace / beside).unlink(missing_ok=True)
    after = before | {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    _write(directory, MANIFEST, json.dumps({"files": dict(sorted(after.items()))}, indent=1).encode() + b"\n")
    return kept


def told_of(kept: Collection[str]) -> str:
    """A sentence, with a blank before it, about files that stay as their owner edited them; empty for none."""
    return f" Kept as you edited them, with ours beside as {BESIDE}: {', '.join(kept)}." if kept else ""


def delivered_before(directory: Path) -> dict[str, str]:
    """Path in the workspace -> sha256, as the system was delivered last; empty where nothing was noted."""
    try:
        noted = json.loads((directory / MANIFEST).read_bytes())
        return {str(path): str(digest) for path, digest in noted["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # lost or spoilt: every file counts as its owner's


def _known(path: str, before: Mapping[str, str], directory: str) -> Collection[str]:
    """Digests under which a file counts as ours: as noted, or of releases that noted nothing."""
    if path in before:
        return (before[path],)
    return releases().get(path.removeprefix(f"{directory}/"), ())


@functools.cache
def releases() -> dict[str, tuple[str, ...]]:
    """Path in a system's directory -> sha256 of the file in each release that did not note what it delivered."""
    told: dict[str, dict[str, str]] = json.loads(_RELEASES.read_bytes())
    paths = {path for files in told.values() for path in files}
    return {path: tuple(files[path] for files in told.values() if path in files) for path in paths}


def _is_edited(path: Path, content: bytes, delivered: Collection[str]) -> bool:
    """Whether something stands there that is neither what was delivered nor what is delivered now."""
    return path.is_file() and _sha256(path) not in {*delivered, hashlib.sha256(content).hexdigest()}


def digests(workspace: Path, system: str) -> dict[str, str]:
    """`/`-rooted path -> sha256 of every file of a system and its workflow."""
    directory = workspace / system_directory(system)
    files = [
        path for path in directory.rglob("*") if path.is_file() and not _UNTOLD & set(path.relative_to(directory).parts)
    ]
    workflow = workspace / ".github" / "workflows" / f"ml-{system}.yml"
    files += [workflow] if workflow.is_file() else []
    return {f"/{path.relative_to(workspace).as_posix()}": _sha256(path) for path in sorted(files)}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Paths that are new or differ."""
    return tuple(path for path, digest in after.items() if before.get(path) != digest)


def artifacts(after: Mapping[str, str], system: str) -> tuple[Artifact, ...]:
    """What was delivered: everything but the working directories that git ignores."""
    told = (path for path in after if not _WORKING & set(path.removeprefix(f"/{system_directory(system)}").split("/")))
    return tuple(Artifact(path=path, digest=after[path], kind=_kind(path)) for path in told)


def _kind(path: str) -> Kind:
    name, parts = path.rsplit("/", 1)[-1], set(path.split("/"))
    by_name: dict[str, Kind] = {
        "system.toml": "spec",
        "schema.json": "contract",
        "openapi.json": "contract",
        "delivered.json": "lock",
        "record.json": "document",
        "sbom.json": "document",
    }
    by_suffix: dict[str, Kind] = {"whl": "engine", "lock": "lock"}
    found = by_name.get(name) or by_suffix.get(name.rsplit(".", 1)[-1])
    if found:
        return found
    if "tests" in parts:
        return "test"
    if parts & {"deploy", ".github"} or name == "Makefile":
        return "deployment"
    return "document" if name.endswith((".md", ".html")) or name in {"LICENSE", ".gitignore"} else "code"


def _write(directory: Path, name: str, content: bytes) -> None:
    """By rename: a reader sees the old bytes or the new ones, a failure leaves the old ones and no draft."""
    path = directory / name
    draft = path.with_name(f".{path.name}.new")
    try:
        if not path.parent.resolve().is_relative_to(directory.resolve()):
            raise Permanent(f"{path.parent} leads out of the workspace: remove the link, submit again")
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)  # whatever it is: a link would be written through
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise Permanent(f"cannot write {path}: {error.strerror}. Grant access or free space, submit again.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
