"""Delivered systems of a workspace: where they lie, which engine each vendors, and what that engine says.

A system is asked through its own engine, in a subprocess: what was shipped is what answers. Left out: training and
serving, which have processes of their own (ml-engineer, `mlmesh serve`).
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from services._runtime.errors import Permanent

SYSTEMS: Final = "ml"
"""Where a workspace keeps its systems."""
_ASK_S: Final = 60.0
"""Longest wait for an answer: an engine reads its registry and asks its server, nothing more."""


def system_directory(system: str) -> str:
    """Where a system lies, relative to the workspace."""
    return f"{SYSTEMS}/{system.replace('-', '_')}"


def delivered_systems(workspace: Path) -> list[Path]:
    """Directories of the systems that a workspace has, by name."""
    return sorted(spec.parent for spec in (workspace / SYSTEMS).glob("*/system.toml"))


def find_engine(directory: Path) -> Path:
    """The newest engine in a system's `vendor/`. Raises Permanent."""
    wheels = sorted((directory / "vendor").glob("mlsystem-*.whl"), key=_version)
    if not wheels:
        raise Permanent(
            f"{directory / 'vendor'} holds no engine mlsystem-<version>-py3-none-any.whl: restore it from git"
        )
    return wheels[-1]


def engine_version(wheel: str) -> str:
    """The version in an engine's file name."""
    return wheel.split("-")[1]


def engine_environment(directory: Path) -> dict[str, str]:
    """The environment in which a person's commands of a system run: theirs, with the system's engine found first."""
    return {
        **os.environ,
        "PYTHONPATH": str(find_engine(directory)),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }


async def ask(directory: Path, *words: str) -> Mapping[str, Any]:
    """What a system's engine answers to one command with `--json`, `{"ok": False, "error": ...}` included."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mlsystem", *words, "--json"),
        cwd=directory,
        env=engine_environment(directory),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _ASK_S)
        said: dict[str, Any] = json.loads(out)
    except TimeoutError:
        return _silent(f"it gave no answer to {words[0]} within {_ASK_S:g} s")
    except ValueError:
        return _silent(f"its engine did not answer to {words[0]}: run python -m mlsystem {words[0]} in {directory}")
    else:
        error: Mapping[str, Any] = said.get("error") or {}
        if error.get("code") != "usage":
            return said
        return _silent(f"its engine {find_engine(directory).name} does not know {words[0]}: mlmesh upgrade {directory}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _silent(why: str) -> Mapping[str, Any]:
    return {"ok": False, "error": {"code": "no_answer", "message": why}}


def _version(wheel: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", engine_version(wheel.name))))
