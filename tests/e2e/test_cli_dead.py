"""`mlmesh dead` against services that run: what they refused is seen, given back, and gone when a person says so."""

import asyncio
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from contracts import subjects
from contracts.envelope import MSG_ID, read_event
from contracts.events import TaskSubmitted
from services._runtime.bus import Bus
from services._runtime.provision import provision
from tests.conftest import fast_settings
from tests.e2e.test_cli_terminal import terminal
from tests.fakes.cli import Cli, environment
from tests.processes import Services
from tests.server import NatsServer

_LONGEST_S: Final = 20
TRACE: Final = f"00-{'a' * 32}-{'b' * 16}-01"


@dataclass(frozen=True, slots=True)
class Mesh:
    """The desk and the memory as processes, and a command line that is a client of their bus."""

    cli: Cli
    directory: Path
    url: str

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str]) -> None:
        """As any program does."""
        asyncio.run(self._at_bus(lambda bus: bus.publish(subject, body, headers)))

    def events(self, task: str) -> list[Any]:
        """The journal of a task."""
        return [read_event(stored) for stored in asyncio.run(self._at_bus(lambda bus: bus.history(task)))]

    async def _at_bus(self, work: Callable[[Bus], Any]) -> Any:
        bus = await Bus.connect(fast_settings(self.url, self.directory), "test")
        try:
            await provision(bus)
            return await work(bus)
        finally:
            await bus.close()

    def letters(self, *filters: str) -> list[dict[str, Any]]:
        """What `list` tells."""
        return self.cli.run("dead", "list", "--json", *filters).object["letters"]

    def until(self, found: Callable[[list[dict[str, Any]]], bool], *filters: str) -> list[dict[str, Any]]:
        """The letters, once they are as they should be."""
        until = time.monotonic() + _LONGEST_S
        while not found(letters := self.letters(*filters)):
            assert time.monotonic() < until, letters
        return letters


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mesh]:
    """One mesh for the whole story."""
    directory = tmp_path_factory.mktemp("mesh")
    server = NatsServer(directory / "nats")
    server.start()
    services = Services(server.url, directory)
    services.start(subjects.GATEWAY, subjects.CONTEXT_MANAGER)
    found = Mesh(Cli(directory, {**environment(None), "NATS_URL": server.url}), directory, server.url)
    yield found
    services.stop()
    server.stop()


def refused(mesh: Mesh, name: str) -> int:
    """A letter about a report for a workspace that is not there; its number."""
    place = mesh.directory / name
    headers = {MSG_ID: name, "ce-id": name, "mesh-workspace": str(place), "traceparent": TRACE, "x-token": "a1" * 12}
    body = {"reporting_agent": name, "summary": "done", "password": "hunter2hunter2"}
    mesh.publish("mesh.report.agent", json.dumps(body).encode(), headers)
    [letter] = mesh.until(lambda found: any(name in each["reason"] for each in found), "--durable", "context-manager")[
        -1:
    ]
    return letter["seq"]


def test_a_letter_is_listed_and_shown_whole_without_secrets(mesh: Mesh) -> None:
    """What, why, whose, which trace, what to do; the stored letter itself stays as it is."""
    seq = refused(mesh, "shown")
    [row] = [row for row in mesh.letters() if row["seq"] == seq]
    reason = f"workspace {str(mesh.directory / 'shown')!r} is no directory here: create it, or mount it where this"
    assert {name: value for name, value in row.items() if name != "time"} == {
        "seq": seq,
        "reason": f"{reason} service runs",
        "subject": "mesh.report.agent",
        "task": "",
        "trace_id": "",
        "deliveries": 1,
        "durable": "context-manager",
    }
    shown = mesh.cli.run("dead", "show", str(seq), "--json").object
    assert shown["body"] == {"reporting_agent": "shown", "summary": "done", "password": "[redacted value]"}
    assert (shown["headers"]["x-token"], shown["headers"]["traceparent"]) == ("[redacted value]", TRACE)
    assert (shown["body_kind"], shown["body_cut"], shown["stream"]) == ("json", False, "REPORTS")
    assert f"mlmesh dead redrive {seq}" in shown["do"]
    plain = mesh.cli.run("dead", "show", str(seq))
    assert ("hunter2" in plain.stdout, "reporting_agent" in plain.stdout, plain.code) == (False, True, 0)
    assert "mesh.report.agent" in mesh.cli.run("dead", "list").stdout
    assert mesh.cli.run("tasks").stdout.rstrip().endswith("see: mlmesh dead list")
    checks = {check["name"]: check for check in mesh.cli.run("doctor", "--json").object["checks"]}
    assert checks["dead letters"]["do"].endswith(": mlmesh dead list")


def test_a_redriven_message_is_judged_anew(mesh: Mesh) -> None:
    """What was wrong has been mended: now it is taken in, and no letter comes of it."""
    seq = refused(mesh, "mended")
    (mesh.directory / "mended").mkdir()
    done = mesh.cli.run("dead", "redrive", str(seq), "--json")
    [one] = done.object["redriven"]
    assert (done.code, done.object["refused"], one["how"]) == (0, [], "published")
    assert one["message_id"] == f"redrive-{seq}-1"
    until = time.monotonic() + _LONGEST_S
    while not list((mesh.directory / "home" / "context").glob("mended-*/context-manager.json")):
        assert time.monotonic() < until, "the report was not taken in"
    assert seq not in [row["seq"] for row in mesh.letters()]
    settled = mesh.cli.run("dead", "list", "--settled", "--json").object["settled"]
    assert (settled[-1]["how"], settled[-1]["letter_seq"], settled[-1]["redrive_id"]) == (
        "redriven",
        seq,
        one["message_id"],
    )


def test_a_request_whose_task_failed_goes_on_as_a_new_task(mesh: Mesh) -> None:
    """Both ids are told. Here it is refused again, by the same reader: a letter about the new task."""
    headers = {MSG_ID: "nine", "ce-dataschema": "urn:mlmesh:TaskSubmitted:9"}
    mesh.publish("mesh.task.nine.submitted.ml-engineer", b'{"request":"predict"}', headers)
    [letter] = mesh.until(bool, "--task", "nine")
    done = mesh.cli.run("dead", "redrive", "--all", "--task", "nine", "--json").object["redriven"][0]
    assert (done["seq"], done["how"], done["task"]) == (letter["seq"], "submitted", "nine")
    assert done["told"] == f"task nine is over: its request goes on as task {done['goes_on_as']}"
    [again] = mesh.until(bool, "--task", done["goes_on_as"])
    assert "major version 9" in again["reason"]
    submitted = mesh.events(done["goes_on_as"])[0]
    assert (submitted.metadata.task, submitted.event) == (done["goes_on_as"], "submitted")


def test_letters_that_stay_are_told_by_the_exit_code(mesh: Mesh) -> None:
    """3: some were redriven. 4: none. 2: a number that is none, and nothing was touched."""
    good = refused(mesh, "good")
    (mesh.directory / "good").mkdir()
    mesh.publish("mesh.task.over.submitted.ml-engineer", b"{", {MSG_ID: "over"})
    [bad] = mesh.until(bool, "--task", "over")
    codes = [
        mesh.cli.run("dead", "redrive", *words, "--json").code
        for words in ((str(good), "999999"), (str(good), str(bad["seq"])), (str(bad["seq"]),))
    ]
    assert codes == [2, 3, 4]
    assert [row["seq"] for row in mesh.letters("--task", "over")] == [bad["seq"]]
    assert isinstance(mesh.events("over")[0].body, TaskSubmitted) is False


def test_discarded_letters_are_told_and_gone(mesh: Mesh) -> None:
    """All of them only on a word of its own: nobody sits at a terminal here."""
    first, second = refused(mesh, "one"), refused(mesh, "two")
    done = mesh.cli.run("dead", "discard", str(first), "--json")
    assert [(row["seq"], "one" in row["reason"]) for row in done.object["discarded"]] == [(first, True)]
    every = ("dead", "discard", "--all", "--durable", "context-manager", "--json")
    unsure = mesh.cli.run(*every)
    assert (unsure.code, "say so with --yes" in unsure.object["error"]) == (2, True)
    assert second in [row["seq"] for row in mesh.letters()]
    assert mesh.cli.run(*every, "--yes").code == 0
    assert mesh.letters("--durable", "context-manager") == []


@pytest.mark.parametrize(("said", "code", "left"), [("\n", 2, 1), ("y\n", 0, 0)])
def test_at_a_terminal_discarding_all_is_asked_for(mesh: Mesh, said: str, code: int, left: int) -> None:
    """Anything but a yes leaves them."""
    refused(mesh, f"asked-{code}")
    mesh.cli.run("dead", "discard", *(str(row["seq"]) for row in mesh.letters("--durable", "context-manager")[:-1]))
    with terminal(mesh.cli, "dead", "discard", "--all", "--durable", "context-manager") as person:
        person.read_until("Discard 1 dead letters for good? [y/N]")
        person.type(said)
        assert person.end()[0] == code
    assert len(mesh.letters("--durable", "context-manager")) == left


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("show", "1", "2"),
        ("redrive",),
        ("redrive", "1", "--all"),
        ("discard",),
        ("list", "7"),
        ("show", "0"),
    ],
)
def test_words_that_do_not_say_which_letters_are_refused(mesh: Mesh, words: tuple[str, ...]) -> None:
    """Usage: nothing was touched."""
    assert mesh.cli.run("dead", *words, "--json").code == 2
