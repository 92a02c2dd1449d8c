"""What a process costs, as the kernel counts it: processor time and memory of its whole life, threads included."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, user and system, in steps of 10 ms; its children's is theirs."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@dataclass(frozen=True, slots=True)
class Bill:
    """Processor time of several processes at one moment."""

    at: Mapping[str, float]

    @classmethod
    def of(cls, pids: Mapping[str, int]) -> "Bill":
        """The bill as it stands now."""
        return cls({name: cpu_s(pid) for name, pid in pids.items()})

    def since(self, before: "Bill", *, times: int) -> dict[str, float]:
        """Milliseconds of processor time for each of `times` pieces of work since an earlier bill."""
        return {name: (spent - before.at[name]) * 1000 / times for name, spent in self.at.items()}
