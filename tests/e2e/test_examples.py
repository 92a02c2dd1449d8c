"""The examples: their data come out as described, and what their documents tell people to type exists."""

import csv
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

from contracts.slots import QUESTION_IDS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CHECKOUT = EXAMPLES / "checkout"


def script(path: Path) -> Any:
    """A script of the examples, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_arguments_make_the_same_customers(tmp_path: Path) -> None:
    """The table is drawn from one generator with a fixed seed, in this process or another."""
    make_data = script(CHECKOUT / "make_data.py")
    made = make_data.write(tmp_path / "here.csv", rows=300)
    other = tmp_path / "data" / "there.csv"
    command = [sys.executable, str(CHECKOUT / "make_data.py"), str(other), "--rows", "300"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert made.read_bytes() == other.read_bytes()
    assert made.read_bytes() != make_data.write(tmp_path / "x.csv", rows=300, seed=8).read_bytes()


def test_the_customer_table_has_what_real_tables_have(tmp_path: Path) -> None:
    """An id, a constant, blanks, money with thousands, a category with many levels, and an outcome worth predicting."""
    rows = table(script(CHECKOUT / "make_data.py").write(tmp_path / "customer_churn.csv"))
    assert len(rows) == 4000
    assert len({row["customer_id"] for row in rows}) == len(rows)
    assert {row["currency"] for row in rows} == {"EUR"}
    assert 0.04 < sum(not row["payment"] for row in rows) / len(rows) < 0.09
    assert all(not row["basket_eur"] for row in rows if row["orders_90d"] == "0")
    assert any(re.fullmatch(r"\d{1,3},\d{3}\.\d\d", row["lifetime_spend_eur"]) for row in rows)
    assert len({row["district"] for row in rows}) == 60
    assert 0.2 < sum(row["churned"] == "Yes" for row in rows) / len(rows) < 0.4


@pytest.mark.parametrize(("column", "low", "high"), [("late_deliveries_90d", "0", "3"), ("plan", "family", "basic")])
def test_customers_leave_for_the_reasons_that_are_described(column: str, low: str, high: str) -> None:
    """Who has late deliveries, or the small plan, leaves more often."""
    rows = list(script(CHECKOUT / "make_data.py").customers())

    def rate(value: str) -> float:
        found = [row["churned"] == "Yes" for row in rows if row[column] == value]
        return sum(found) / len(found)

    assert rate(high) > rate(low) + 0.1


def test_every_column_of_the_customer_table_is_described() -> None:
    """The table's document, the script and the table name the same columns."""
    row = next(script(CHECKOUT / "make_data.py").customers(rows=1))
    described = re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "data" / "README.md").read_text(), re.MULTILINE)
    assert described == list(row)
    docstring = script(CHECKOUT / "make_data.py").__doc__ or ""
    assert [name for name in row if f"`{name}`" not in docstring] == []


def test_the_wines_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """Real measurements, all of them, with names for the classes."""
    from sklearn.datasets import load_wine

    rows = table(script(EXAMPLES / "wine" / "make_data.py").write(tmp_path / "wine.csv"))
    wine = cast("Any", load_wine())
    assert [row["cultivar"] for row in rows] == [f"cultivar {label + 1}" for label in wine.target]
    assert [[float(text) for text in list(row.values())[:-1]] for row in rows] == wine.data.tolist()


@pytest.mark.parametrize("name", ["checkout", "wine"])
def test_the_demo_asks_for_a_table_that_the_example_makes(name: str, tmp_path: Path) -> None:
    """Path and target of the demo's request are those of the script."""
    example = next(example for example in script(EXAMPLES / "demo.py").KNOWN if example.name == name)
    make_data = script(EXAMPLES / name / "make_data.py")
    path = make_data.write(tmp_path / Path(example.data).name)
    assert EXAMPLES / name / example.data == make_data.DEFAULT
    assert example.data in example.request
    assert example.target in table(path)[0]


def test_the_answers_file_answers_questions_that_exist() -> None:
    """Every key is the id of a question."""
    slots = tomllib.loads((EXAMPLES / "answers.toml").read_text())
    keys = [f"{slot}.{field}" for slot, fields in slots.items() for field in fields]
    assert keys
    assert [key for key in keys if key not in QUESTION_IDS] == []


@pytest.mark.parametrize("readme", sorted(EXAMPLES.rglob("README.md")), ids=lambda path: path.parent.name)
def test_files_and_commands_that_a_readme_names_exist(readme: Path) -> None:
    """A path in a README is there, or made by the example; a command is one that can be run."""
    text = readme.read_text()
    made = {"data/customer_churn.csv", "customer_churn.csv", "data/wine.csv", ".env"}
    named = set(re.findall(r"`([\w./-]+\.(?:py|js|md|csv|toml|yaml))`|\]\(([\w./-]+)\)", text))
    paths = [path or link for path, link in named]
    places = (readme.parent, readme.parent.parent)
    missing = [path for path in paths if path not in made and not any((place / path).exists() for place in places)]
    assert missing == []
    for command in _commands(text):
        assert _runnable(command, readme.parent), command


def _commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`((?:make|python|mlmesh|\.venv/bin/\w+) [^`]*)`", text)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [shlex.split(line) for line in [*lines, *spans]]


def _runnable(command: list[str], directory: Path) -> bool:
    program, *words = command
    match program.removeprefix(".venv/bin/"):
        case "make":
            return bool(re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE))
        case "python":
            return any((place / words[0]).is_file() for place in (ROOT, directory))
        case "mlmesh":
            from services.gateway.cli import WORDS

            return words[0] in WORDS
        case _:
            return program in {"cp", "cd", "docker"}
