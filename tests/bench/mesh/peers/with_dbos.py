# pyright: basic, reportMissingImports=false
"""DBOS with its system database in SQLite: a workflow of the same steps in one process, each step recorded.

Guarantees that a workflow that was running when its process died is run again from its last recorded step when a
process of that executor starts; the step in flight is repeated. No bus and no second service; two processes of one
executor on one SQLite file are not what it is made for.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from tests.bench.mesh.driver import Roles, drive_threads, say
from tests.bench.mesh.peers import work

THREAD = "recovered"


@DBOS.step()
def brief() -> str:
    """The briefing."""
    return work.read_briefing(work.brief(work.asked().to_bytes())).to_bytes().decode()


@DBOS.step()
def step(name: str, *, slow: bool) -> dict[str, Any]:
    """One of the four."""
    return work.step(name, slow=slow)


@DBOS.step()
def deliver() -> str:
    """The delivery."""
    return work.delivered().to_bytes().decode()


@DBOS.step()
def tell() -> str:
    """The report."""
    return work.reported().to_bytes().decode()


@DBOS.step()
def summarise(report: str) -> str:
    """The summary."""
    return work.summarised(report).to_bytes().decode()


@DBOS.workflow()
def task(request: str, *, slow: bool = False) -> str:
    """A task."""
    del request
    brief()
    for name in work.STEPS:
        step(name, slow=slow)
    deliver()
    return summarise(tell())


def launch(directory: str) -> None:
    """Starts the engine on a file; workflows that were running go on."""
    database = f"sqlite:///{Path(directory) / 'dbos.sqlite'}"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": database,
            "application_version": "1",
            "log_level": "ERROR",
            "enable_otlp": False,
        }
    )
    DBOS.launch()


def worker(directory: str) -> None:
    """Runs the task that is to be killed, or waits for it when it is there."""
    launch(directory)
    say({"ready": True})
    with SetWorkflowID(THREAD):
        handle = DBOS.start_workflow(task, work.REQUEST, slow=True)
    handle.get_result()
    (Path(directory) / "done").touch()
    sys.stdin.read()
    os._exit(0)


def recovered(directory: str) -> None:
    """Kill -9 in the middle; another process at once."""
    roles = Roles("tests.bench.mesh.peers.with_dbos", (directory,))
    roles.start("worker")
    mark, done = Path(directory) / "mark", Path(directory) / "done"
    while not mark.exists():
        time.sleep(0.005)
    roles.kill("worker")
    begun = time.perf_counter()
    roles.start("worker")
    while not done.exists():
        time.sleep(0.005)
    say({"seconds": time.perf_counter() - begun})
    roles.stop()


def driver(directory: str) -> None:
    """Runs tasks."""
    launch(directory)
    drive_threads(lambda: task(work.REQUEST), {})
    DBOS.destroy()


if __name__ == "__main__":
    role, _directory = sys.argv[1:3]
    {"driver": driver, "worker": worker, "recovery": recovered}[role](_directory)
