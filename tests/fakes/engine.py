"""An engine that speaks the output protocol of `mlsystem` and learns nothing: a whole engagement takes a second.

`pack` makes a wheel of this very file as `mlsystem/__main__.py`, with the real spec beside it, so that `check` says
what the real engine says, and with a `pytest` that stands for the delivered tests. What else it does is its
behaviour, packed along: see `Behaviour`. Registry and stages are files in the system's directory, as the real ones.
"""

import itertools
import json
import os
import pkgutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypedDict

WHEEL = "mlsystem-0.1.0-py3-none-any.whl"
_REAL = ("errors.py", "expression.py", "output.py", "spec.py")
_PYTEST = "import sys\nfrom mlsystem import __main__ as fake\nsys.exit(fake.tests())\n"


class Behaviour(TypedDict, total=False):
    """What the fake does besides its work, by command."""

    calls: str
    """File that every command writes its name to."""
    results: dict[str, dict[str, Any]]
    """Laid over a command's result."""
    errors: dict[str, dict[str, Any]]
    """The error of a command that is refused."""
    lines: dict[str, list[str]]
    """Raw lines on stdout before the work."""
    holds: dict[str, str]
    """A command waits until this file exists."""
    dies: dict[str, int]
    """A command ends by this signal, or with this exit code where it is negative."""
    stubborn: list[str]
    """Commands that ignore SIGTERM."""
    child: str
    """File for the pid of a child that ignores SIGTERM, of every command that is held."""
    environment: str
    """File for the environment."""


def pack(directory: Path, behaviour: Behaviour | None = None) -> Path:
    """Writes the wheel; the same name as the real one."""
    import zipfile

    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(directory / WHEEL, "w") as archive:
        archive.writestr("mlsystem/__init__.py", '__version__ = "0.1.0"\n')
        archive.writestr("mlsystem/behaviour.json", json.dumps(behaviour or {}))
        archive.writestr("pytest/__init__.py", "")
        archive.writestr("pytest/__main__.py", _PYTEST)
        for name, content in _modules().items():
            archive.writestr(f"mlsystem/{name}", content)
    return directory / WHEEL


@cache
def _modules() -> dict[str, bytes]:
    """The modules, each compiled beside its source: else every command would compile them before it begins."""
    import py_compile
    import tempfile

    from services.ml_engineer.wheel import BLUEPRINT

    sources = {"__main__": Path(__file__), **{Path(name).stem: BLUEPRINT / "mlsystem" / name for name in _REAL}}
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in sources.items():
            compiled = Path(scratch) / f"{name}.pyc"
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), str(compiled), doraise=True, invalidation_mode=unchecked)
            found |= {f"{name}.py": source.read_bytes(), compiled.name: compiled.read_bytes()}
    return found


def main() -> int:
    """One command."""
    command, behaviour = sys.argv[1], _behaviour()
    if "calls" in behaviour:
        with Path(behaviour["calls"]).open("a") as calls:
            calls.write(f"{command}\n")
    if "environment" in behaviour:
        Path(behaviour["environment"]).write_text(json.dumps(dict(os.environ)))
    if command in behaviour.get("stubborn", []):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in behaviour.get("lines", {}).get(command, []):
        sys.stdout.write(f"{line}\n")
    _tell({"event": "progress", "step": command, "fraction": 0.5, "message": f"{command} is running", "metrics": {}})
    _hold(command, behaviour)
    if error := behaviour.get("errors", {}).get(command):
        _tell({"event": "result", "ok": False, "error": error})
        return 4
    result = _COMMANDS[command](Path.cwd()) | behaviour.get("results", {}).get(command, {})
    _tell({"ok": "error" not in result, **result, "event": "result"})
    return 0


def tests() -> int:
    """The delivered tests: green unless the behaviour says otherwise."""
    behaviour = _behaviour()
    if "calls" in behaviour:
        with Path(behaviour["calls"]).open("a") as calls:
            calls.write("test\n")
    _hold("test", behaviour)
    failed = "test" in behaviour.get("errors", {})
    sys.stdout.write("1 failed, 6 passed\n" if failed else "7 passed\n")
    return int(failed)


def _behaviour() -> Behaviour:
    return json.loads(pkgutil.get_data("mlsystem", "behaviour.json") or b"{}")


def _hold(command: str, behaviour: Behaviour) -> None:
    """Waits where it is told to, with a child that does not end when asked; dies where it is told to."""
    if go := behaviour.get("holds", {}).get(command):
        if "child" in behaviour:
            Path(behaviour["child"]).write_text(str(_stubborn_child()))
        while not Path(go).exists():
            time.sleep(0.005)
    if how := behaviour.get("dies", {}).get(command):
        _die(how)


def _stubborn_child() -> int:
    """The pid of a process that SIGTERM does not end."""
    import subprocess

    script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    if child.stdout is not None:
        child.stdout.readline()
    return child.pid


def _die(how: int) -> NoReturn:
    sys.stderr.write("RuntimeError: it broke\n")
    sys.stderr.flush()
    if how > 0:
        os.kill(os.getpid(), how)
        time.sleep(60)
    os._exit(-how)


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _profile(_root: Path) -> dict[str, Any]:
    """Types by trial; every column of two values could be the target, the last one most."""
    words = sys.argv[3:]
    names, rows = _rows([Path(word) for word in itertools.takewhile(lambda word: not word.startswith("--"), words)])
    model = Path(_word("--model")).read_text() if _word("--model") else ""
    values = {name: [row[name] for row in rows] for name in names}
    columns = [
        {
            "name": name,
            "type": "number" if all(_is_number(value) for value in found) else "category",
            "missing": 0,
            "distinct": len(set(found)),
            "examples": list(dict.fromkeys(found))[:3],
        }
        for name, found in values.items()
    ]
    pairs = [name for name, found in values.items() if len(set(found)) == 2]
    candidates = [
        {"target": name, "kind": "binary", "score": 0.9 - 0.2 * place, "why": "two values"}
        for place, name in enumerate(reversed(pairs))
    ]
    found = {"rows": len(rows), "columns": columns, "candidates": candidates, "time": [], "reader": {"delimiter": ","}}
    return found | ({"model": {"takes": [name for name in names if name in model]}} if model else {})


def _check(root: Path) -> dict[str, Any]:
    from mlsystem.errors import SpecError
    from mlsystem.spec import check

    try:
        return check(root, None, None)  # pyright: ignore[reportArgumentType] - it reads neither
    except SpecError as error:
        return {"error": error.as_json()}


def _validate(root: Path) -> dict[str, Any]:
    from mlsystem.spec import read_spec

    spec = read_spec(root)
    sources = [root / path for path in spec.data.source]
    digest = _digest(*(path.read_bytes() for path in sources))
    names, rows = _rows(sources)
    _write(root / "data" / "snapshots" / digest / sources[0].name, sources[0].read_bytes())
    _write(root / "schema.json", json.dumps({"target": spec.task.target, "columns": names}).encode())
    held_out = len(rows) // 5
    return {
        "digest": digest,
        "rows": len(rows),
        "columns": len(names),
        "findings": [{"kind": "id_like", "columns": names[:1], "action": "dropped", "text": f"{names[0]} names a row"}],
        "split": {"method": "random", "train": len(rows) - held_out, "holdout": held_out, "why": "drawn at random"},
        "snapshot": {"digest": digest, "rows": len(rows), "path": f"data/snapshots/{digest}"},
    }


def _train(root: Path) -> dict[str, Any]:
    snapshot = next(
        iter(sorted((root / "data" / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime_ns)[::-1])
    )
    digest = _digest(snapshot.name.encode(), (root / "schema.json").read_bytes())
    _write(root / "work" / "train" / "model.onnx", f"model of {digest}".encode())
    tried = [("linear", "linear", 0.83), ("lightgbm_small", "lightgbm", 0.84)]
    candidates = [
        {"name": name, "family": family, "score": score, "metric": "roc_auc", "wall_s": 0.1}
        for name, family, score in tried
    ]
    return {
        "digest": digest,
        "candidates": candidates,
        "ensemble": {"lightgbm_small": 0.75, "linear": 0.25},
        "metric": "roc_auc",
        "calibration": "platt",
        "wall_s": 0.2,
    }


def _evaluate(root: Path) -> dict[str, Any]:
    model = (root / "work" / "train" / "model.onnx").read_bytes()
    nothing = dict.fromkeys(("low", "high", "baseline", "linear"))
    return {
        "digest": _digest(model),
        "metrics": {
            "roc_auc": {"value": 0.84, "low": 0.8, "high": 0.88, "baseline": 0.5, "linear": 0.83},
            "latency_ms_p99": {"value": 3.2, **nothing},
        },
        "gates": [gate("parity", 1e-8, 1e-5), gate("beats_trivial", 0.3, 0.0)],
        "outcome": "success",
        "best_baseline": "prior",
        "latency": {"p50_ms": 1.4, "p99_ms": 3.2, "rate_rps": 50, "seconds": 0.5, "capacity_rps": 900.0},
        "memory_mb": 90.0,
        "model_mb": 0.1,
        "holdout": {"rows": 12, "opened": 1},
    }


def gate(name: str, value: float, threshold: float, *, passed: bool = True) -> dict[str, Any]:
    """A gate as `evaluate` tells it."""
    text = f"{name} is {value}, {threshold} is asked"
    return {"name": name, "value": value, "threshold": threshold, "passed": passed, "text": text}


def _package(root: Path) -> dict[str, Any]:
    model = (root / "work" / "train" / "model.onnx").read_bytes()
    digest, entries = _digest(model, (root / "schema.json").read_bytes()), _entries(root)
    version = next((entry["version"] for entry in entries if entry["digest"] == digest), None)
    created = version is None
    if version is None:
        version = 1 + max((entry["version"] for entry in entries), default=0)
        _write(root / "registry" / "blobs" / digest, model)
        _append(root, "registered", version, digest)
    return {"digest": digest, "version": version, "created": created, "outcome": "success", "servable": True}


def _history(root: Path) -> dict[str, Any]:
    live = _live(root)
    told = {
        "event": "promoted",
        "version": live[-1] if live else None,
        "text": f"at {_word('--at')} version {live[-1:]} was live",
    }
    return {"entries": _entries(root), **(told if _word("--at") else {})}


def _promote(root: Path) -> dict[str, Any]:
    named = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2].isdigit() else None
    version = int(named) if named else max(entry["version"] for entry in _entries(root))
    return _move(root, "promoted", version)


def _rollback(root: Path) -> dict[str, Any]:
    live = _live(root)
    if len(live) < 2:
        return {"error": {"code": "nothing_to_return_to", "message": "no other version was live before"}}
    return _move(root, "rolled-back", int(_word("--to") or live[-2]))


def _move(root: Path, event: str, version: int) -> dict[str, Any]:
    before = _live(root)[-1:]
    if [version] == before:
        return {"version": version, "previous": None, "changed": False}
    evidence = {"from": before[0] if before else None}
    _append(root, event, version, "", why=_word("--why"), by=_word("--by"), evidence=evidence)
    return {"version": version, "previous": before[0] if before else None, "changed": True}


def _live(root: Path) -> list[int]:
    """Versions as they went live; a rollback cuts the end off."""
    live: list[int] = []
    for entry in _entries(root):
        if entry["event"] == "promoted":
            live.append(entry["version"])
        elif entry["event"] == "rolled-back":
            live = live[: live.index(entry["version"]) + 1]
    return live


def _openapi(root: Path) -> dict[str, Any]:
    _write(root / "docs" / "openapi.json", b'{"openapi": "3.1.0"}\n')
    return {"path": "docs/openapi.json"}


def _sbom(root: Path) -> dict[str, Any]:
    _write(root / "docs" / "sbom.json", b'{"bomFormat": "CycloneDX"}\n')
    return {"path": "docs/sbom.json", "components": 1, "licences": {"numpy": "BSD-3-Clause"}}


def _monitor(_root: Path) -> dict[str, Any]:
    since = _word("--since")
    return {"cause": f"plan has drifted since {since}", "findings": [{"text": "plan: PSI 0.4"}], "page": "page.html"}


def _drill(_root: Path) -> dict[str, Any]:
    trial = {
        "name": "rollback",
        "did": "rolled back",
        "expected": "the version before",
        "ok": True,
        "text": "in 0.2 s",
        "detect_s": None,
        "recover_s": 0.2,
        "requests": 90,
        "failed": 0,
    }
    return {"format": 1, "at": "2026-11-24T12:00:00Z", "version": 1, "scenarios": [trial]}


def _word(flag: str) -> str:
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else ""


def _entries(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((root / "registry" / "history").glob("*.json"))]


def _append(root: Path, event: str, version: int, digest: str, **about: object) -> None:
    number = 1 + len(_entries(root))
    entry = {"number": number, "event": event, "version": version, "digest": digest, **about}
    _write(root / "registry" / "history" / f"{number:06d}.json", json.dumps(entry).encode())


def _rows(files: list[Path]) -> tuple[list[str], list[dict[str, str]]]:
    import csv

    rows: list[dict[str, str]] = []
    names: list[str] = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            rows += list(reader)
            names = list(reader.fieldnames or [])
    return names, rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _digest(*parts: bytes) -> str:
    import hashlib

    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_bytes(content)
    draft.replace(path)


_COMMANDS = {
    "profile": _profile,
    "check": _check,
    "validate": _validate,
    "train": _train,
    "evaluate": _evaluate,
    "package": _package,
    "history": _history,
    "promote": _promote,
    "rollback": _rollback,
    "openapi": _openapi,
    "sbom": _sbom,
    "monitor": _monitor,
    "drill": _drill,
}

if __name__ == "__main__":
    sys.exit(main())
