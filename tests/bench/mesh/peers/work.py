"""The task that every system carries out, with an engine that takes no time: only the system's own cost is left.

Brief, four steps, a delivery, a report, a summary. Bodies are the mesh's contracts, checked by pydantic wherever a
message is read, in every system alike. Needs the contracts, and so pydantic, alone.
"""

import os
import time
from pathlib import Path
from typing import Any, Final

from contracts.briefing import Briefing, BriefingBody, ContextRequest, Fact, Query
from contracts.events import Delivered, Gate
from contracts.report import ActivityReport
from contracts.summary import Claim, Summary

STEPS: Final = ("profile", "train", "evaluate", "package")
REQUEST: Final = "Predict whether a checkout is fraud from data/checkouts.csv; the target is fraud."
RESULT: Final[dict[str, Any]] = {
    "rows": 12_000,
    "metrics": {"auc": 0.91, "baseline": 0.5, "linear": 0.87},
    "files": ["/ml/model/registry/1/model.onnx", "/ml/model/system.toml"],
}
"""What a step leaves: about as much as a real one."""
MARK: Final = "BENCH_MARK"
"""Environment variable with the path of a file: the third step of a slow task makes it and waits to be killed."""


def asked() -> ContextRequest:
    """The request for a briefing."""
    return ContextRequest(
        requesting_agent="ml-engineer", request_type="get_task_briefing", payload=Query(query=REQUEST)
    )


def brief(request: bytes | str) -> bytes:
    """The answer to a request as it stands on the wire."""
    return answer(ContextRequest.model_validate_json(request)).to_bytes()


def answer(request: ContextRequest) -> Briefing:
    """A briefing as large as that for a small workspace."""
    facts = tuple(
        Fact(slot="nfr", field=f"field_{n}", value=f"{n} ms", source=f"/README.md:{n}", confidence=0.9)
        for n in range(5)
    )
    body = BriefingBody(
        summary="A checkout service in TypeScript with a table of past checkouts.",
        relevant_paths=("/README.md", "/package.json", "/data/checkouts.csv"),
        file_purposes={"/README.md": "documentation", "/data/checkouts.csv": "a table of 500 rows"},
        facts=facts,
    )
    return Briefing(response_to=request.request_type, status="success", briefing=body)


def read_briefing(body: bytes | str) -> Briefing:
    """The briefing in an answer."""
    return Briefing.model_validate_json(body)


def step(name: str, *, slow: bool = False) -> dict[str, Any]:
    """The result of a step. The third one of a slow task waits for its process to be killed, the first time."""
    mark = Path(os.environ.get(MARK, "/nonexistent/mark"))
    if slow and name == STEPS[2] and not mark.exists():
        mark.touch()
        while True:
            time.sleep(1)
    return RESULT


def delivered() -> Delivered:
    """What the work left."""
    gate = Gate(name="beats the baseline", value=0.91, threshold=0.5, passed=True, text="0.91 over 0.50")
    return Delivered(system="model", system_dir="/ml/model", version=1, outcome="success", gates=(gate,))


def reported() -> ActivityReport:
    """The report of a task."""
    return ActivityReport(
        reporting_agent="ml-engineer", status="success", summary="The model stands at /ml/model and beats the baseline."
    )


def summarised(report: bytes | str) -> Summary:
    """The summary of a report."""
    read = ActivityReport.model_validate_json(report)
    return Summary(text=read.summary, claims=(Claim(text=read.summary, refs=("/ml/model",)),), outcome="success")
