"""One engagement through the real services, by the command line alone: asked, answered, built, served."""

import csv
import json
import random
import signal
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.fakes.cli import Cli, environment

ANSWERS = """
[scale]
rate = "20 rps"
spikes = "2x"
[data]
known_at_prediction = "yes"
[nfr]
latency = "none"
availability = "99 %"
[security]
pii = "none"
regime = "none"
"""


def write_table(path: Path) -> dict[str, str]:
    """Customers who leave when they wait long and pay much; the first row."""
    draw = random.Random(5)
    path.parent.mkdir()
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["plan", "wait_days", "price", "left"])
        for _ in range(400):
            wait, price = draw.randint(0, 20), round(draw.uniform(5, 50), 2)
            leaves = draw.random() < (0.9 if wait + price / 3 > 18 else 0.1)
            rows.writerow([draw.choice(["basic", "plus"]), wait, price, "Yes" if leaves else "No"])
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))


@pytest.mark.timeout(240)
def test_a_request_is_asked_answered_built_and_served(tmp_path: Path) -> None:
    """`run` ends with questions and takes its bus along; `answer` completes the task; `serve` answers a row."""
    quick = {
        "MLMESH_LATENCY_S": "0.5",
        "MLMESH_PROOFS": "false",
        "MLMESH_TRAIN_BUDGET_S": "2",
        "MLMESH_ACK_WAIT_S": "15",
    }
    cli = Cli(tmp_path, {**environment(None), **quick})
    row = write_table(tmp_path / "data" / "leavers.csv")
    (tmp_path / "answers.toml").write_text(ANSWERS, encoding="utf-8")

    waiting = cli.run("run", "Predict left from data/leavers.csv", "--json")
    task = waiting.object["task"]
    assert (waiting.code, waiting.object["outcome"], waiting.object["questions"] != []) == (6, "waiting", True)

    with cli.started("answer", task, "--answers", "answers.toml", "--json") as answering:
        stdout, _ = answering.communicate(timeout=200)
    found = json.loads(stdout)
    assert (found["task"], found["state"], answering.returncode) == (task, "completed", 0), found.get("reason")
    assert found["metrics"]["roc_auc"]["low"] > 0.5
    assert found["assumptions"] == []

    with cli.started("serve", found["system"], "--port", "0", "--json") as serving:
        assert serving.stdout is not None
        url = json.loads(serving.stdout.readline())["url"]
        body = json.dumps({"rows": [row]}).encode()
        with urlopen(Request(f"{url}/predict", body, {"content-type": "application/json"})) as answer:  # noqa: S310
            predicted = json.load(answer)["predictions"][0]
        serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 0
    assert (predicted["prediction"] in {"Yes", "No"}, predicted["version"]) == (True, found["version"])
