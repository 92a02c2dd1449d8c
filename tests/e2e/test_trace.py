"""One task is one trace: real services as processes, exporting to a real collector.

One run is shared by all tests. In it `t1`, a bare event without headers, goes from submission to summary while the
ml-engineer is stopped in the middle of training; `t2` comes with its submitter's own trace and fails early; `t3`, a
question about what `t1` has built, comes when the collector is gone. What a killed process had not exported is lost:
that is left out here.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from contracts import subjects
from contracts.envelope import TaskEvent, root_span_id, trace_id
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.provision import provision
from tests.conftest import fast_settings
from tests.fakes.otlp_collector import Context, Kind, OtlpCollector, Span
from tests.following import FINAL, eventually, history, is_progress, until
from tests.processes import Services
from tests.server import NatsServer
from tests.workspaces import REQUEST, churn

pytestmark = pytest.mark.timeout(300)

CALLER = Context("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
"""The span of a program that submits `t2`."""
TRACES = {"t1": trace_id("t1"), "t2": CALLER.trace_id, "t3": trace_id("t3")}

ROOT = "gateway: task ml-engineer"
ENGINEER = "ml-engineer: process mesh.work.ml-engineer.{task}"
SUMMARIZER = "summarizer: process mesh.work.summarizer.{task}"
BRIEFING = "mesh.context.get-task-briefing"
REPORTED = "ml-engineer: send mesh.task.{task}.reported.ml-engineer"
SUMMARISED = "summarizer: send mesh.task.{task}.summarised.ml-engineer"
WORKING = "ml-engineer: send mesh.task.{task}.working.ml-engineer"

How = Literal["parent", "link"]
EDGES: set[tuple[str, str, How]] = {
    # a bare submission has no span of its own: the task's root stands for it
    (ROOT, ENGINEER, "parent"),
    (ROOT, ENGINEER, "link"),
    # request and reply
    (f"ml-engineer: request {BRIEFING}", f"context-manager: process {BRIEFING}", "parent"),
    # the report wakes the summarizer and is read by the context-manager
    (REPORTED, SUMMARIZER, "parent"),
    (REPORTED, SUMMARIZER, "link"),
    (REPORTED, "context-manager: process mesh.report.ml-engineer", "parent"),
    (REPORTED, "context-manager: process mesh.report.ml-engineer", "link"),
    # what was before is over: the root is the parent, the summary is linked
    (SUMMARISED, ENGINEER, "link"),
    # a redelivery is linked to the claim that it takes over from
    (WORKING, ENGINEER, "link"),
    # the claims of the first activation and of the later ones
    (ROOT, WORKING, "parent"),
}
"""Every edge of `t1` between services or across a message."""

ENGINE = {
    "step profile": {"command profile"},
    "step design": {"command check"},
    "step validate": {"command validate"},
    "step train": {"command train"},
    "step evaluate": {"command evaluate"},
    "step package": {"command package"},
    "step promote": {"command history", "command promote"},
    "step sbom": {"command sbom"},
    "step openapi": {"command openapi"},
}
"""Steps of the ml-engineer -> what the engine's process told of itself under them."""


@dataclass(frozen=True, slots=True)
class Story:
    """What the run left behind."""

    spans: tuple[Span, ...]
    journals: dict[str, list[TaskEvent]]
    logs: dict[str, list[dict[str, Any]]]
    """Service -> lines."""

    def of(self, task: str) -> list[Span]:
        """The spans of a task's trace, oldest first."""
        return sorted((span for span in self.spans if span.trace_id == TRACES[task]), key=lambda span: span.start_ns)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The run."""
    directory = tmp_path_factory.mktemp("trace")
    server = NatsServer(directory / "nats")
    server.start()
    with OtlpCollector() as collector:
        services = Services(server.url, directory, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        services.start()
        try:
            spans, journals = asyncio.run(_run(server, services, collector, directory))
        finally:
            services.stop()
            server.stop()
    return Story(spans, journals, {name: _lines(services.log(name)) for name in subjects.SERVICES})


async def _run(
    server: NatsServer, services: Services, collector: OtlpCollector, directory: Path
) -> tuple[tuple[Span, ...], dict[str, list[TaskEvent]]]:
    bus = await Bus.connect(fast_settings(server.url, directory), "test")
    try:
        await provision(bus)
        workspace = churn(directory / "shop")
        await _submit(bus, "t1", workspace)
        await until(bus, "t1", is_progress("train"), within_s=120)
        assert services.terminate(subjects.ML_ENGINEER) == 0
        services.start(subjects.ML_ENGINEER)
        caller = f"00-{CALLER.trace_id}-{CALLER.span_id}-01"
        await _submit(bus, "t2", workspace, request="Predict churn from data/gone.csv", traceparent=caller)
        for task in ("t1", "t2"):
            await until(bus, task, FINAL, within_s=120)
        journals = {task: await history(bus, task) for task in ("t1", "t2")}
        spans = await asyncio.to_thread(collector.until, lambda found: _whole(found, journals))
        collector.stop()
        await _submit(bus, "t3", workspace, request="What was live yesterday at noon?")
        await until(bus, "t3", FINAL, within_s=120)
        await eventually(partial(_tells, services.log(subjects.GATEWAY), "t3"))  # the supervisor looks now and then
        return spans, {**journals, "t3": await history(bus, "t3")}
    finally:
        await bus.close()


async def _submit(bus: Bus, task: str, workspace: Path, *, request: str = REQUEST, **headers: str) -> None:
    body = {"request": request, "workspace": str(workspace), "accept_defaults": True}
    subject = subjects.task_event(task, "submitted", subjects.ML_ENGINEER)
    await bus.client.publish(subject, json.dumps(body).encode(), headers=headers or None)
    await bus.flush()


async def _tells(log: Path, task: str) -> bool:
    return f'"{task}"' in log.read_text(encoding="utf-8")


def _whole(spans: Sequence[Span], journals: dict[str, list[TaskEvent]]) -> bool:
    """True when every process has exported what it did for the tasks."""
    names = Counter(_node(span) for span in spans)
    claims = sum(event.event == "working" for events in journals.values() for event in events)
    ended = len(journals)
    wanted = {
        ROOT: ended,
        ENGINEER: claims,
        SUMMARIZER: ended,
        "context-manager: process mesh.report.ml-engineer": ended,
    }
    return all(names[name] >= count for name, count in wanted.items()) and _orphans(spans) <= {CALLER.span_id}


def _orphans(spans: Iterable[Span]) -> set[str]:
    """Ids of parents that nobody exported."""
    found = list(spans)
    return {span.parent_id for span in found if span.parent_id} - {span.span_id for span in found}


def _node(span: Span) -> str:
    return f"{span.service}: {span.name}"


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _edges(spans: Sequence[Span]) -> set[tuple[str, str, How]]:
    """Edges into spans that begin with a message, or that lead from one service to another."""
    known = {span.context: span for span in spans}
    found: set[tuple[str, str, How]] = set()
    for span in spans:
        above: list[tuple[Context, How]] = [(Context(span.trace_id, span.parent_id), "parent")]
        above.extend((link, "link") for link in span.links)
        for context, how in above:
            other = known.get(context)
            if other is not None and (span.kind is Kind.CONSUMER or other.service != span.service):
                found.add((_node(other), _node(span), how))
    return found


def _ancestors(span: Span, spans: Sequence[Span]) -> list[str]:
    by_id = {other.span_id: other for other in spans}
    found: list[str] = []
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        found.append(span.name)
    return found


def test_everything_is_told_in_the_traces_of_the_tasks(story: Story) -> None:
    """One trace a task: no service begins another one beside it."""
    assert {span.trace_id for span in story.spans} == {TRACES["t1"], TRACES["t2"]}
    for task in ("t1", "t2"):
        assert {span.service for span in story.of(task)} == set(subjects.SERVICES)


def test_the_edges_between_services_are_those_of_the_table(story: Story) -> None:
    """The asynchronous ones included."""
    assert _edges(story.of("t1")) == EDGES


@pytest.mark.parametrize(("task", "missing"), [("t1", set[str]()), ("t2", {CALLER.span_id})])
def test_no_span_hangs_in_the_air(task: str, missing: set[str], story: Story) -> None:
    """Every parent was exported; the span of a submitter outside the mesh is its own to export."""
    assert _orphans(story.of(task)) == missing


def test_the_root_is_emitted_once_with_the_ids_that_anybody_can_derive(story: Story) -> None:
    """By the gateway, from the fold, when the final event is seen."""
    submitted, final = story.journals["t1"][0], story.journals["t1"][-1]
    (root,) = [span for span in story.of("t1") if not span.parent_id]
    assert root == Span(
        service="gateway",
        name="task ml-engineer",
        kind=Kind.SERVER,
        context=Context(trace_id("t1"), root_span_id("t1")),
        parent_id="",
        links=(),
        attributes={"mlmesh.task": "t1", "mlmesh.outcome": "success"},
        start_ns=telemetry.nanoseconds(submitted.metadata.time),
        end_ns=telemetry.nanoseconds(final.metadata.time),
        error="",
    )


def test_a_submitters_own_trace_is_the_trace_of_the_task(story: Story) -> None:
    """The root hangs on the submitter's span, and so does what the submission woke."""
    spans = story.of("t2")
    (root,) = [span for span in spans if _node(span) == ROOT]
    first = next(span for span in spans if _node(span) == ENGINEER)
    assert (root.context, root.parent_id) == (Context(CALLER.trace_id, root_span_id("t2")), CALLER.span_id)
    assert (first.parent_id, first.links) == (CALLER.span_id, (CALLER,))
    assert (root.error, root.attributes["mlmesh.outcome"]) == (
        getattr(story.journals["t2"][-1].body, "reason", None),
        "failed",
    )


def test_a_redelivery_and_a_resumption_are_links_in_the_same_trace(story: Story) -> None:
    """Stopped in the middle of training, taken over by the next process, resumed by the summary."""
    spans = story.of("t1")
    sent = {span.attributes.get("messaging.message.id"): span.context for span in spans if span.kind is Kind.PRODUCER}
    root = Context(trace_id("t1"), root_span_id("t1"))
    working = [event.metadata.id for event in story.journals["t1"] if event.event == "working"]
    summarised = next(event.metadata.id for event in story.journals["t1"] if event.event == "summarised")
    activations = [span for span in spans if _node(span) == ENGINEER]
    assert [(span.attributes["mlmesh.delivery"], span.parent_id, set(span.links)) for span in activations] == [
        (1, root.span_id, {root}),
        (2, root.span_id, {root, sent[working[0]]}),
        (1, root.span_id, {sent[summarised]}),
    ]


def test_the_engines_process_is_part_of_the_trace(story: Story) -> None:
    """Its spans hang under the step that started it, in the activation that did the step."""
    spans = story.of("t1")
    by_id = {span.span_id: span for span in spans}
    found: dict[str, set[str]] = {}
    for span in spans:
        if span.name.startswith("command "):
            found.setdefault(by_id[span.parent_id].name, set()).add(span.name)
    assert found == ENGINE
    training = [span for span in spans if span.name == "train.features"][-1]  # of the run that was not cut off
    assert _ancestors(training, spans) == [
        "stage train",
        "command train",
        "step train",
        "process mesh.work.ml-engineer.{task}",
        "task ml-engineer",
    ]


def test_every_event_carries_the_context_of_the_span_that_sent_it(story: Story) -> None:
    """Who reads the stream finds the span, and the other way round."""
    for task in ("t1", "t2"):
        sent = {
            span.attributes["messaging.message.id"]: f"00-{span.trace_id}-{span.span_id}-01"
            for span in story.of(task)
            if span.kind is Kind.PRODUCER
        }
        told = {event.metadata.id: event.metadata.traceparent for event in story.journals[task][1:]}
        assert {message: sent.get(message) for message in told} == told


def test_spans_of_messages_follow_the_messaging_conventions(story: Story) -> None:
    """Name, kind and attributes; one of each sort, whole."""
    ids = {event.event: event.metadata.id for event in story.journals["t1"]}
    spans = {_node(span): span for span in story.of("t1")}
    request = spans[f"ml-engineer: request {BRIEFING}"].attributes["messaging.message.id"]
    nats = {"messaging.system": "nats", "mlmesh.task": "t1"}
    send = {**nats, "messaging.operation.name": "send", "messaging.operation.type": "send"}
    process = {**nats, "messaging.operation.name": "process", "messaging.operation.type": "process"}
    expected = {
        REPORTED: (
            Kind.PRODUCER,
            {
                **send,
                "messaging.destination.name": "mesh.task.t1.reported.ml-engineer",
                "messaging.destination.template": "mesh.task.{task}.reported.ml-engineer",
                "messaging.message.id": ids["reported"],
            },
        ),
        SUMMARIZER: (
            Kind.CONSUMER,
            {
                **process,
                "messaging.destination.name": "mesh.work.summarizer.t1",
                "messaging.destination.template": "mesh.work.summarizer.{task}",
                "messaging.consumer.group.name": "summarizer",
                "messaging.message.id": ids["reported"],
                "mlmesh.delivery": 1,
            },
        ),
        ENGINEER: (
            Kind.CONSUMER,
            {
                **process,
                "messaging.destination.name": "mesh.work.ml-engineer.t1",
                "messaging.destination.template": "mesh.work.ml-engineer.{task}",
                "messaging.consumer.group.name": "ml-engineer",
                "messaging.message.id": ids["summarised"],
                "mlmesh.delivery": 1,
            },
        ),
        "context-manager: process mesh.report.ml-engineer": (
            Kind.CONSUMER,
            {
                **process,
                "messaging.destination.name": "mesh.report.ml-engineer",
                "messaging.message.id": ids["reported"],
            },
        ),
        f"ml-engineer: request {BRIEFING}": (
            Kind.CLIENT,
            {
                **send,
                "messaging.operation.name": "request",
                "messaging.destination.name": BRIEFING,
                "messaging.message.id": request,
            },
        ),
        f"context-manager: process {BRIEFING}": (
            Kind.SERVER,
            {
                **process,
                "messaging.destination.name": BRIEFING,
                "messaging.consumer.group.name": "context-manager",
                "messaging.message.id": request,
            },
        ),
    }
    assert {node: (spans[node].kind, spans[node].attributes) for node in expected} == expected


def test_a_span_of_a_message_is_named_after_its_operation_and_destination(story: Story) -> None:
    """With the template where there is one: names of spans do not grow with the tasks."""
    about = [
        (
            span.name,
            [span.attributes.get(f"messaging.{part}") for part in ("operation.name", "destination.template")],
            span,
        )
        for span in story.spans
        if "messaging.system" in span.attributes
    ]
    assert about
    for name, (operation, template), span in about:
        assert name == f"{operation} {template or span.attributes['messaging.destination.name']}"


def test_every_line_about_a_task_carries_the_task_and_its_trace(story: Story) -> None:
    """What is said of the process itself (its connection, its consumers) names no task; everything else does."""
    lines = [
        (service, line)
        for service, found in story.logs.items()
        for line in found
        if not line["event"].startswith("bus.")
    ]
    about = [line for _, line in lines if not line["event"].startswith("consumer.")]
    assert [line for line in about if TRACES.get(line.get("task", ""), "") != line.get("trace_id", "?")] == []
    told = {(service, line["task"]) for service, line in lines if "task" in line}
    assert told == {(service, task) for service in subjects.SERVICES for task in TRACES}


def test_a_collector_that_is_away_fails_no_task(story: Story) -> None:
    """Traces are lost then, work is not."""
    assert [event.event for event in story.journals["t3"][-2:]] == ["working", "completed"]
    assert [span for span in story.spans if span.attributes.get("mlmesh.task") == "t3"] == []
