# pyright: basic, reportMissingImports=false
"""LangGraph: a graph of the same steps in one process, a checkpoint in SQLite on disk after each (durability sync).

Guarantees that a graph goes on after the last checkpoint when somebody invokes its thread again: a node that was
running is run again. Nobody notices a dead process; there is no bus, no second process, no fencing of two callers
on one thread, and the caller must be there. One connection writes, one task at a time.
"""

import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from tests.bench.mesh.driver import Roles, drive_threads, say
from tests.bench.mesh.peers import work

THREAD = "recovered"


class State(TypedDict, total=False):
    """What is in a checkpoint."""

    slow: bool
    request: str
    briefing: str
    profile: dict
    train: dict
    evaluate: dict
    package: dict
    delivered: str
    report: str
    summary: str


def graph(directory: str) -> CompiledStateGraph:
    """The compiled graph, with its checkpoints in a file."""
    built = StateGraph(State)
    names = ["brief", *(f"step_{name}" for name in work.STEPS), "deliver", "tell", "summarise"]
    built.add_node("brief", lambda state: {"briefing": _briefed(state)})
    for name in work.STEPS:
        built.add_node(f"step_{name}", lambda state, name=name: {name: work.step(name, slow=state.get("slow", False))})
    built.add_node("deliver", lambda _: {"delivered": work.delivered().to_bytes().decode()})
    built.add_node("tell", lambda _: {"report": work.reported().to_bytes().decode()})
    built.add_node("summarise", lambda state: {"summary": work.summarised(state["report"]).to_bytes().decode()})
    for before, after in zip([START, *names], [*names, END], strict=True):
        built.add_edge(before, after)
    connection = sqlite3.connect(Path(directory) / "checkpoints.db", check_same_thread=False)
    return built.compile(checkpointer=SqliteSaver(connection))


def _briefed(state: State) -> str:
    del state
    return work.read_briefing(work.brief(work.asked().to_bytes())).to_bytes().decode()


def run(compiled: CompiledStateGraph, state: State | None, thread: str) -> None:
    """One task to its end."""
    found = compiled.invoke(state, {"configurable": {"thread_id": thread}}, durability="sync")
    if not found["summary"]:
        raise RuntimeError("no summary")


def worker(directory: str, first: str) -> None:
    """Runs the task that is to be killed, or invokes its thread again."""
    compiled = graph(directory)
    say({"ready": True})
    run(compiled, {"slow": True, "request": work.REQUEST} if first == "first" else None, THREAD)
    say({"done": True})


def recovered(directory: str) -> None:
    """Kill -9 in the middle; another process, which has to be told to invoke the thread again."""
    roles = Roles("tests.bench.mesh.peers.with_langgraph", (directory, "first"))
    roles.start("worker")
    mark = Path(directory) / "mark"
    while not mark.exists():
        time.sleep(0.005)
    roles.kill("worker")
    begun = time.perf_counter()
    again = [sys.executable, "-m", roles.module, "worker", directory, "again"]
    subprocess.run(again, check=True, capture_output=True)
    say({"seconds": time.perf_counter() - begun})


def driver(directory: str) -> None:
    """Runs tasks."""
    compiled = graph(directory)
    drive_threads(lambda: run(compiled, {"request": work.REQUEST}, uuid.uuid4().hex), {})


if __name__ == "__main__":
    role, *_rest = sys.argv[1:]
    {"driver": driver, "worker": worker, "recovery": recovered}[role](*_rest)
