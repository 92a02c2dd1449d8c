"""The arithmetic of a process, pinned so that the same rows give the same model on more than one machine.

OpenBLAS picks its kernels by the processor it finds, and kernels differ in the last bits of a sum: enough for other
weights of a logistic regression, and then for another model file. Every x86-64 processor of the last ten years has
the instructions of the Haswell kernels, so those are used wherever they can be. Must run before numpy is imported.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

KERNEL: Final = "OPENBLAS_CORETYPE"
_COMMON: Final = "Haswell"
_NEEDED: Final = frozenset({"avx2", "fma"})
_PROCESSOR: Final = Path("/proc/cpuinfo")


def pin_kernels(environment: MutableMapping[str, str]) -> None:
    """Choose the kernels that most machines have, unless the environment names others or this one lacks them."""
    if platform.machine() == "x86_64" and KERNEL not in environment and _flags() >= _NEEDED:
        environment[KERNEL] = _COMMON


def kernel_of(recorded: Mapping[str, Any]) -> str:
    """Return the kernels that a recorded platform computed with, "" if it does not say, or says more than one."""
    found = {str(library.get("architecture", "")) for library in recorded.get("blas", ())}
    return found.pop() if len(found) == 1 else ""


def _flags() -> frozenset[str]:
    """Return what the first processor can do, by Linux's names; nothing where there is no Linux to say so."""
    try:
        text = _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
