"""The command `eject`: the engine becomes its owner's source, in `engine/`, and `eject --pack` makes the wheel of it.

After `eject` the system still runs the vendored wheel, byte for byte as it was; whoever changes `engine/` packs it,
which replaces the wheel and its hash in both locks. The wheel is deterministic: the same source gives the same bytes.
Leaves everything else in the system as it is. An ejected engine is not upgraded any more: it is its owner's.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlsystem import __version__
from mlsystem.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlsystem.output import Reporter

FOLDER: Final = "engine"
LOCKS: Final = ("requirements/serve.lock", "requirements/train.lock")
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can hold, and the same always."""
_METADATA: Final = "Metadata-Version: 2.3\nName: mlsystem\nVersion: {version}\nSummary: The engine of this system.\n"
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: mlsystem eject\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LOCKED = re.compile(r"(\./vendor/)mlsystem-[^ ]+\.whl((?:\s|\\\n)+--hash=sha256:)[0-9a-f]{64}")


def eject(root: Path, options: argparse.Namespace, reporter: Reporter) -> dict[str, object]:
    """`eject [--pack]`: write the engine's source into `engine/`, or make the wheel of what stands there.

    Raises: SpecError if `engine/` is there already, or, to pack, is not.
    """
    folder = root / FOLDER
    if options.pack:
        return _pack(root, folder)
    if folder.exists():
        raise SpecError("ejected", f"{folder} is there already; change it and run `python -m mlsystem eject --pack`")
    files = dict(_files(resources.files("mlsystem"), "mlsystem"))
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    reporter.progress("eject", 1.0, f"{len(files)} files in {folder}; after a change: python -m mlsystem eject --pack")
    return {"path": FOLDER, "files": len(files), "engine": __version__}


def _files(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the package's files, in a directory as in a wheel."""
    for item in sorted(folder.iterdir(), key=lambda found: found.name):
        if item.is_dir():
            if item.name != "__pycache__":
                yield from _files(item, f"{name}/{item.name}")
        elif not item.name.endswith(".pyc"):
            yield f"{name}/{item.name}", item.read_bytes()


def _pack(root: Path, folder: Path) -> dict[str, object]:
    package = folder / "mlsystem"
    if not (package / "__init__.py").is_file():
        raise SpecError("not_ejected", f"there is no {package}; run `python -m mlsystem eject` first")
    version = _version(package)
    content = _wheel(dict(_files(package, "mlsystem")), version)
    name, digest = f"mlsystem-{version}-py3-none-any.whl", hashlib.sha256(content).hexdigest()
    vendor = root / "vendor"
    for lock in LOCKS:
        text = (root / lock).read_text(encoding="utf-8")
        replaced, times = _LOCKED.subn(rf"\g<1>{name}\g<2>{digest}", text)
        if times != 1:
            raise SpecError(
                "no_engine_in_lock", f"{lock} does not name the engine in ./vendor/ once; restore it from git"
            )
        (root / lock).write_text(replaced, encoding="utf-8")
    vendor.mkdir(exist_ok=True)
    (vendor / f".{name}.new").write_bytes(content)
    (vendor / f".{name}.new").replace(vendor / name)
    for other in vendor.glob("mlsystem-*.whl"):
        if other.name != name:
            other.unlink()
    return {"wheel": f"vendor/{name}", "sha256": digest, "engine": version}


def _version(package: Path) -> str:
    found = re.search(r'__version__\s*=\s*"([^"]+)"', (package / "__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise SpecError("no_version", f"{package / '__init__.py'} names no __version__; put it back")
    return found[1]


def _wheel(files: Mapping[str, bytes], version: str) -> bytes:
    """Return the wheel (PEP 427) of these files, the same bytes every time."""
    import io

    about = f"mlsystem-{version}.dist-info"
    members = {
        **files,
        f"{about}/METADATA": _METADATA.format(version=version).encode(),
        f"{about}/WHEEL": _WHEEL.encode(),
    }
    lines = [f"{name},sha256={_hash(content)},{len(content)}" for name, content in members.items()]
    members[f"{about}/RECORD"] = ("\n".join([*lines, f"{about}/RECORD,,"]) + "\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return made.getvalue()


def _hash(content: bytes) -> str:
    """Return the digest as RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
