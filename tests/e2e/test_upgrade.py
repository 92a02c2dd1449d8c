"""A system that an earlier release delivered gets the engine of this one while it serves, and keeps what was edited."""

import json
import tarfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.fakes.cli import ROOT, Cli, environment

RELEASES = ROOT / "tests" / "releases"
ROW = {"customer": "C1", "tenure": 3, "charges": 90.5, "plan": "monthly", "country": "NL"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A workspace with the system of release 0.2.0."""
    with tarfile.open(RELEASES / "0.2.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return Cli(tmp_path, {**environment(None), "MLMESH_ACK_WAIT_S": "15"})


@pytest.mark.timeout(240)
def test_a_system_of_the_last_release_is_upgraded_while_it_serves(cli: Cli) -> None:
    """Not a request fails; wheel, locks and tests are new and green; an edited test and the documents stay."""
    system = cli.workspace / "ml" / "churn"
    edited = system / "tests" / "test_mlsystem_contract.py"
    edited.write_text(edited.read_text() + "\n# ours\n")
    readme = (system / "README.md").read_bytes()
    with cli.started("serve", "churn", "--port", "0", "--json") as serving:
        assert serving.stdout is not None
        url = json.loads(serving.stdout.readline())["url"]
        before = predicted(url)
        with asked(url) as answers, cli.started("upgrade", "churn", "--json") as upgrading:
            stdout, stderr = upgrading.communicate(timeout=200)
        after = predicted(url)
        serving.terminate()
        serving.wait(40)
    found = json.loads(stdout)
    assert (upgrading.returncode, found["outcome"]) == (0, "success"), (found.get("reason"), stderr[-2000:])
    assert [(gate["name"], gate["passed"]) for gate in found["gates"]] == [("spec", True), ("delivered_tests", True)]
    assert (answers.failed, answers.answered > 20, before == after) == ([], True, True)
    (wheel,) = (system / "vendor").glob("*.whl")
    assert wheel.name != "mlsystem-0.1.0-py3-none-any.whl"
    assert wheel.name in (system / "requirements" / "serve.lock").read_text()
    assert edited.read_text().endswith("# ours\n")
    assert edited.with_name(f"{edited.name}.new").read_bytes() != edited.read_bytes()
    assert sorted(path.name for path in system.rglob("*.new")) == [f"{edited.name}.new"]
    assert (system / "README.md").read_bytes() == readme
    with cli.started("serve", "churn", "--port", "0", "--json") as serving:
        assert serving.stdout is not None
        assert predicted(json.loads(serving.stdout.readline())["url"]) == before
        serving.terminate()
        serving.wait(40)


@pytest.mark.timeout(120)
def test_systems_tells_how_each_one_is(cli: Cli) -> None:
    """An engine that is too old to tell says so, and what to do; a directory that is no system is left out."""
    (cli.workspace / "ml" / "notes").mkdir()
    listed = cli.run("systems", "--json")
    assert listed.code == 0
    (system,) = listed.object["systems"]
    assert (system["name"], system["engine"], system["health"]) == ("churn", "0.1.0", "unknown")
    remedy = f"mlmesh upgrade {cli.workspace / 'ml' / 'churn'}"
    assert system["troubles"] == [f"its engine mlsystem-0.1.0-py3-none-any.whl does not know status: {remedy}"]
    assert cli.run("systems", "--workspace", "data", "--json").object == {"systems": []}


class Answers:
    """What came back while somebody asked without a pause."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self.stop = threading.Event()

    def ask(self, url: str) -> None:
        """Ask until told to stop."""
        while not self.stop.is_set():
            try:
                predicted(url)
            except (URLError, OSError, ValueError) as error:
                self.failed.append(str(error))
            else:
                self.answered += 1


@contextmanager
def asked(url: str) -> Generator[Answers]:
    """Somebody asks the server all the time."""
    answers = Answers()
    asking = threading.Thread(target=answers.ask, args=(url,))
    asking.start()
    try:
        yield answers
    finally:
        answers.stop.set()
        asking.join()


def predicted(url: str) -> dict[str, float]:
    """The probabilities of one row."""
    request = Request(f"{url}/predict", json.dumps({"rows": [ROW]}).encode(), {"content-type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.load(answer)["predictions"][0]["probabilities"]
