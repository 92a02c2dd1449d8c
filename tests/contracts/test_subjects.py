"""The grammar of subjects: builders and parsers are inverse for any name that an agent may have."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import subjects
from contracts.briefing import ContextRequest, Query
from contracts.events import EVENTS

HOSTILE_NAMES = [
    "ml-engineer",
    "a.b",
    "*",
    ">",
    "mesh.task.*.>",
    "agent with spaces",
    "new\nline",
    "tab\there",
    "100%",
    "%2E",
    "größe",
    "エージェント",
    "🤖",
    "\x00",
    "$SYS",
    "_INBOX.1",
    ".",
    "..",
    " ",
]
HOSTILE_IDS = ["", ".", "a.b", "*", ">", "a b", "a\n", "é", "x" * 65, "a/b", "%41", "\u0660"]

task_ids = st.from_regex(subjects.TASK_ID, fullmatch=True)
agents = st.text(min_size=1, max_size=30) | st.sampled_from(HOSTILE_NAMES)
events = st.sampled_from(sorted(EVENTS))
_TOKEN = re.compile(r"[!-~]+")


def tokens(subject: str) -> list[str]:
    """The tokens of a subject, each checked to be one that NATS takes literally."""
    parts = subject.split(".")
    for part in parts:
        assert _TOKEN.fullmatch(part), subject
        assert part not in {"*", ">"}, subject
    return parts


@given(task_ids, events, agents)
def test_the_subject_of_a_task_event_is_read_back(task: str, event: str, agent: str) -> None:
    """Whatever the agent is called, the subject has five literal tokens and gives its parts back."""
    subject = subjects.task_event(task, event, agent)

    assert len(tokens(subject)) == 5
    assert subjects.parse_task_event(subject) == subjects.TaskSubject(task=task, event=event, agent=agent)


@given(agents, task_ids)
def test_the_subject_of_a_doorbell_is_read_back(agent: str, task: str) -> None:
    """A doorbell names its agent and its task."""
    subject = subjects.work_item(agent, task)

    assert len(tokens(subject)) == 4
    assert subjects.parse_work_item(subject) == (agent, task)


@given(agents)
def test_the_subject_of_a_report_is_read_back(agent: str) -> None:
    """A report names its agent."""
    subject = subjects.report(agent)

    assert len(tokens(subject)) == 3
    assert subjects.parse_report(subject) == agent


@given(task_ids, agents)
def test_no_name_adds_a_token_or_a_wildcard(task: str, name: str) -> None:
    """Timers, dead letters, live views and systems hold names as one literal token too."""
    built = (
        (subjects.timer(task, name, name), 5),
        (subjects.dead(name), 3),
        (subjects.live(task), 3),
        (subjects.system_event(name, "drifted"), 4),
    )

    assert [len(tokens(subject)) for subject, _ in built] == [depth for _, depth in built]


@given(agents, agents)
def test_different_names_are_different_tokens(one: str, other: str) -> None:
    """The addressee's token is what permissions are given for: two agents never share one."""
    assert (subjects.token(one) == subjects.token(other)) == (one == other)


@given(agents)
def test_a_token_is_read_back(name: str) -> None:
    """`name_of` is the inverse of `token`."""
    assert subjects.name_of(subjects.token(name)) == name


@pytest.mark.parametrize("disguised", ["%6dl-engineer", "ml%2Dengineer", "ml-engineer%"])
def test_a_token_that_no_name_makes_is_refused(disguised: str) -> None:
    """Another way to write a name would pass a permission on the subject and still mean that agent."""
    with pytest.raises(subjects.SubjectError):
        subjects.parse_task_event(f"mesh.task.t1.submitted.{disguised}")


@pytest.mark.parametrize("task", HOSTILE_IDS)
def test_an_id_that_is_no_token_is_refused_everywhere(task: str) -> None:
    """A task id is used as it is: what NATS could read as structure never gets into a subject."""
    for build in (
        lambda: subjects.task_event(task, "working", "a"),
        lambda: subjects.task_history(task),
        lambda: subjects.work_item("a", task),
        lambda: subjects.timer(task, "answers", "a"),
        lambda: subjects.live(task),
    ):
        with pytest.raises(subjects.SubjectError, match="task id"):
            build()


@pytest.mark.parametrize(
    "subject",
    [
        "mesh.task.t1.submitted",
        "mesh.task.t1.submitted.a.b",
        "mesh.tasks.t1.submitted.a",
        "other.task.t1.submitted.a",
        "mesh.task..submitted.a",
        "mesh.task.t 1.submitted.a",
        "mesh.work.a.t1",
        "",
    ],
)
def test_a_subject_of_another_shape_is_no_task_event(subject: str) -> None:
    """The parser takes its own grammar and nothing else."""
    with pytest.raises(subjects.SubjectError):
        subjects.parse_task_event(subject)


def test_an_empty_name_is_refused() -> None:
    """An empty token would make a subject that the server refuses."""
    with pytest.raises(subjects.SubjectError, match="empty"):
        subjects.token("")


@pytest.mark.parametrize(
    ("request_type", "subject"),
    [
        ("get_task_briefing", "mesh.context.get-task-briefing"),
        ("get_file_location", "mesh.context.get-file-location"),
        ("get_directory_purpose", "mesh.context.get-directory-purpose"),
        ("get_database_context", "mesh.context.get-task-briefing"),
    ],
)
def test_each_request_type_has_its_endpoint(request_type: str, subject: str) -> None:
    """A facet's context is a briefing, so it goes where briefings are asked for."""
    request = ContextRequest(requesting_agent="a", request_type=request_type, payload=Query(query="q"))

    assert subjects.context_request(request.request_type) == subject


def _transformed(subject: str) -> list[str]:
    """What the server makes of `subject` by the transforms of WORK."""
    made: list[str] = []
    for source, destination in subjects.waking_transforms():
        match = re.fullmatch(re.escape(source).replace(r"\*", "([^.]+)"), subject)
        if match:
            numbered = re.sub(
                r"\{\{wildcard\((\d)\)\}\}", lambda hit, found=match: found.group(int(hit[1])), destination
            )
            made.append(numbered)
    return made


@given(task_ids, events, agents)
def test_waking_events_ring_one_doorbell_and_no_other_event_rings(task: str, event: str, agent: str) -> None:
    """The transforms that the server runs make exactly the subjects that `work_item` builds."""
    if event in subjects.WAKING:
        expected = [subjects.work_item(agent, task)]
    elif event == "reported":
        expected = [subjects.work_item(subjects.SUMMARIZER, task)]
    else:
        expected = []

    assert _transformed(subjects.task_event(task, event, agent)) == expected


def test_every_waking_event_exists() -> None:
    """A misspelled waking event would be a doorbell that never rings."""
    assert set(subjects.WAKING) <= set(EVENTS)
