"""Documents of a delivered system: pure, honest, and whole whatever the data are called."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mlsystem.__main__ import COMMANDS
from mlsystem.monitoring.findings import Kind as MonitorKind
from mlsystem.serving.metrics import METRICS
from services.ml_engineer import documents, wheel
from services.ml_engineer.documents import figures, markdown
from services.ml_engineer.documents.promises import PROMISES
from services.ml_engineer.documents.risks import risks
from services.ml_engineer.documents.view import View
from services.ml_engineer.dossier import Dossier
from services.ml_engineer.evidence import Tested, TestResult
from tests.fakes import dossier as fake

ROOT: Final = Path(__file__).parents[3]
KINDS: Final = ("binary", "multiclass", "regression")
OUTCOMES: Final = ("success", "partial", "failed")
BY_THE_ENGINE: Final = dict.fromkeys(("docs/drill.md", "docs/openapi.json", "docs/sbom.json", "schema.json"), "")
PAGES: Final = ("README.md", "docs/deliverables.md", "docs/design.md", "docs/model_card.md")
HOSTILE: Final = (
    "a|b",
    "back`tick",
    "``",
    "a\\|b",
    "`|\\",
    "two\nlines\r\nthree",
    "<script>alert(1)</script>",
    "*bold* _em_ __x__",
    "[link](to) ![image](it)",
    "# heading",
    "- item",
    "1. first",
    "> quote",
    "a &amp; b &lt;",
    "~~gone~~",
    "=====",
    "${{ secrets.TOKEN }}",
    'it\'s "quoted"',
    "naïve 列 🙂",
)

parametrized = pytest.mark.parametrize(("kind", "outcome"), [(k, o) for k in KINDS for o in OUTCOMES])
hostile = pytest.mark.parametrize("name", HOSTILE)


# ---- what is written


def test_a_system_gets_these_files() -> None:
    """What an engagement writes from facts, beside deploy/; spec, contract, engine and tests come from elsewhere."""
    written = documents.render(fake.dossier())
    assert [path for path in written if not path.startswith("deploy/")] == [
        ".gitignore",
        "LICENSE",
        "Makefile",
        "README.md",
        "docs/data_sheet.md",
        "docs/deliverables.md",
        "docs/deployment.md",
        "docs/design.md",
        "docs/model_card.md",
        "docs/monitoring.md",
        "docs/rollback.md",
        "docs/runbook.md",
        "hooks.py",
        "requirements/serve.lock",
        "requirements/train.lock",
    ]


@parametrized
def test_the_same_dossier_gives_the_same_bytes(kind: fake.Kind, outcome: fake.Outcome) -> None:
    """Rendering is pure: nothing but the dossier and the templates is in it."""
    assert _all(fake.dossier(kind, outcome)) == _all(fake.dossier(kind, outcome))


def test_another_process_writes_the_same_bytes() -> None:
    """Neither the seed of hashes nor the working directory nor the clock is in a document."""
    code = (
        "import hashlib, json; from tests.fakes.dossier import dossier; from services.ml_engineer import documents as d"
        "; print(hashlib.sha256(json.dumps(d.render(dossier())).encode()).hexdigest())"
    )
    digests = {_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(digests) == 1


@parametrized
def test_nothing_that_was_not_known_is_written_down(kind: fake.Kind, outcome: fake.Outcome) -> None:
    """What is absent is told as absent, never as the word that Python has for it."""
    for path, text in _all(_unmeasured(fake.dossier(kind, outcome))).items():
        if path == "hooks.py":  # the owner's own, written by nobody's facts
            continue
        assert re.findall(r"\b(None|nan|inf|Undefined)\b|[\[{]'", text) == [], path


def test_documents_name_no_place_but_the_machine_itself() -> None:
    """No document sends anybody anywhere: links stay in the repository, requests on this machine."""
    for path, text in _all(fake.dossier()).items():
        found = re.findall(r"https?://([^/\s`:\"']+)", text)
        assert set(found) <= {"127.0.0.1", "$(HOST)", "prometheus", "..."}, path


def test_links_lead_to_files_that_are_delivered() -> None:
    """Every relative link of a page names a page that is there."""
    files = documents.render(fake.dossier())
    for path, text in files.items():
        for target in re.findall(r"\]\(([^)]+)\)", text) if path.endswith(".md") else ():
            assert os.path.normpath(Path(path).parent / target) in files | BY_THE_ENGINE, path


# ---- honesty


@pytest.mark.parametrize("page", PAGES)
def test_a_failed_gate_is_told_first(page: str) -> None:
    """Whoever reads one paragraph reads what failed."""
    text = documents.render(fake.dossier("binary", "partial"))[page]
    assert _first_paragraph(text) == (
        "1 of 3 gates failed: latency_ms_p99. The model can be served; what failed is not promised."
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_model_that_must_not_be_served_is_called_so(page: str) -> None:
    """A failure is no success with a footnote."""
    text = documents.render(fake.dossier("binary", "failed"))[page]
    assert _first_paragraph(text) == "1 of 3 gates failed: beats_trivial. Do not serve this model: promote refuses it."


def test_a_success_says_on_how_many_rows() -> None:
    """The claim carries its evidence."""
    assert View(fake.dossier()).verdict == (
        "**All 3 gates passed on 400 rows that training never saw.**",
        "Version 1 was made live.",
    )


def test_a_requirement_without_effect_comes_before_the_passed_gates() -> None:
    """What was asked for and is not there makes the end partial, and is told before the praise."""
    known = fake.dossier()
    unmet = replace(known, design=known.design.model_copy(update={"unmet": ("a forecast",)}))
    view = View(unmet)
    assert (view.outcome, view.verdict[:2]) == (
        "partial",
        (
            "**Asked for and without effect yet:** a forecast.",
            "All 3 gates passed on 400 rows that training never saw.",
        ),
    )


def test_a_later_version_is_not_called_live() -> None:
    """Nobody promoted it, so the document says how."""
    known = fake.dossier()
    second = replace(known, promoted=None, packaged=known.packaged.model_copy(update={"version": 2}))
    assert View(second).live == (
        "Version 2 is registered. Making it live is left to a person: `make promote VERSION=2`; "
        "`make history` says which version is live."
    )


def test_a_tie_with_linear_is_told_with_both_scores() -> None:
    """That the simple model is as good is news, not shame."""
    told = View(_tied(fake.dossier())).tie
    assert told.startswith("**A linear model is as good here.** `roc_auc` is 0.843 for it and 0.847 for the shipped")


def test_a_tie_of_two_bad_models_is_no_news() -> None:
    """Where the model is worth nothing, that a linear one is as good is no praise."""
    assert View(_tied(fake.dossier("binary", "failed"))).tie == ""


def test_a_linear_model_that_won_is_told_as_the_winner() -> None:
    """The smallest model that could be shipped was."""
    known = fake.dossier()
    alone = replace(known, training=known.training.model_copy(update={"ensemble": {"linear": 1.0}}))
    assert View(alone).tie.startswith("**The linear model is what is shipped:**")


def test_metrics_stand_beside_baseline_and_linear_with_their_interval() -> None:
    """A number alone says nothing; the deciding metric comes first."""
    table = _table(documents.render(fake.dossier())["docs/model_card.md"], "metric")
    assert table == [
        ["roc_auc (decides)", "0.847", "0.826 to 0.867", "0.500", "0.843", "larger"],
        ["ece", "0.021", "0.014 to 0.047", "0.011", "0.023", "smaller"],
    ]


def test_gates_that_failed_head_their_table() -> None:
    """The reader does not have to look for it."""
    table = _table(documents.render(fake.dossier("binary", "partial"))["docs/model_card.md"], "gate")
    assert [row[:4] for row in table] == [
        ["latency_ms_p99", "failed", "31", "20"],
        ["parity", "passed", "3.0e-08", "1.0e-05"],
        ["beats_trivial", "passed", "0.330", "0"],
    ]


def test_the_leaderboard_orders_by_what_is_better() -> None:
    """Smaller is better for an error, larger for a ranking."""
    for kind in KINDS:
        table = _table(documents.render(fake.dossier(kind))["docs/design.md"], "candidate")
        assert [row[0] for row in table] == ["lightgbm_wide", "linear", "lightgbm_small"]


def test_an_assumption_is_no_known_fact() -> None:
    """A default that nobody confirmed stands under assumptions and risks, not among what is known."""
    text = documents.render(fake.dossier())["docs/design.md"]
    assert _table(text, "question") == [
        ["Which file holds the data to learn from?", "/data/customers.csv", "the request"],
        ["How fast must an answer be (p99)?", "20 ms p99", "/README.md:12"],
    ]
    assert "- How many predictions a second are expected? Assumed: 50 rps (objectives.rate_rps)." in text


def test_people_are_a_topic_only_where_columns_say_so() -> None:
    """Ethical notes rest on the names of features and on personal data that was found."""
    known = fake.dossier()
    columns = tuple(c for c in known.profile.columns if c.name not in {"SeniorCitizen", "email"})
    findings = tuple(f for f in known.validation.findings if f.kind != "pii")
    bare = replace(
        known,
        profile=known.profile.model_copy(update={"columns": columns}),
        validation=known.validation.model_copy(update={"findings": findings}),
    )
    cards = [documents.render(case)["docs/model_card.md"] for case in (known, bare)]
    assert ["## People" in card for card in cards] == [True, False]


def test_every_risk_says_what_to_do() -> None:
    """A failed gate heads the risks."""
    found = risks(View(fake.dossier("binary", "partial")))
    assert found[0].text.startswith("Gate `latency_ms_p99` failed")
    assert all(risk.action for risk in found)


# ---- facts


def test_features_are_what_neither_spec_nor_audit_takes_away() -> None:
    """No id, no personal data, no target; in a split by time not the time itself."""
    assert [View(fake.dossier(kind)).features for kind in ("binary", "regression")] == [
        ("SeniorCitizen", "tenure", "plan", "signed"),
        ("SeniorCitizen", "tenure", "plan"),
    ]


def test_the_row_to_try_is_the_one_that_was_packaged() -> None:
    """It is copied from the README, so it must be answered; where none can be shown, `smoke` asks."""
    known = fake.dossier()
    none = replace(known, packaged=known.packaged.model_copy(update={"example": {}}))
    assert _example(documents.render(known)["README.md"]) == {"rows": [dict(fake.EXAMPLE)]}
    assert "make smoke URL=" in documents.render(none)["README.md"]


def test_regulated_data_are_not_shown() -> None:
    """Under a regime no value of the data stands in a document."""
    text = documents.render(_under(fake.dossier(), "hipaa"))["README.md"]
    assert ("curl" in text, "monthly" in text) == (False, False)


def test_the_memory_limit_is_three_times_what_was_measured() -> None:
    """Two versions are loaded during a switch, and a request needs room."""
    compose = yaml.safe_load(documents.render(fake.dossier())["deploy/compose.yml"])
    assert compose["services"]["serve"]["mem_limit"] == "320m"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, markdown.NOTHING),
        (True, "yes"),
        (1234567, "1,234,567"),
        (41250.4, "41,250"),
        (602.53, "602.5"),
        (11.204, "11.2"),
        (3.0, "3"),
        (1.4, "1.4"),
        (0.5, "0.500"),
        (3e-8, "3.0e-08"),
        (float("nan"), "undefined"),
    ],
)
def test_an_amount_has_the_digits_that_say_something(value: figures.Figure, shown: str) -> None:
    """No 50.00 requests a second, no 0.000 where something was measured."""
    assert figures.figure(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(1.0981, "1.098"), (0.5, "0.500"), (26.516, "26.52"), (0.0, "0")])
def test_a_score_keeps_the_digits_that_intervals_need(value: float, shown: str) -> None:
    """An interval of 1.096 to 1.100 must not read 1.1 to 1.1."""
    assert figures.score(value) == shown


# ---- every number has a source


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_document_comes_from_the_record(kind: fake.Kind) -> None:
    """Another measurement is another document: no figure of the record is written by hand anywhere."""
    known = fake.dossier(kind, "partial")
    for what, other in _remeasured(known):
        assert _pages(other) != _pages(known), what


def test_no_page_holds_a_number_that_nothing_measured() -> None:
    """What is left on the pages when every figure of the record has become another one is text, not measurement."""
    known = fake.dossier()
    quality = {name: row for name, row in known.evaluation.metrics.items() if not name.startswith("latency")}
    figures_of_it = {figures.score(value) for value in _figures(quality)}
    elsewhere = "".join(_pages(_all_remeasured(known)).values())
    assert {shown for shown in figures_of_it if "." in shown and shown in elsewhere} == set()


def test_each_key_of_the_spec_that_a_page_names_a_value_of_changes_the_page() -> None:
    """Thresholds, windows and limits are the spec's, whatever page tells them."""
    known = fake.dossier()
    changes: dict[str, dict[str, Any]] = {
        "monitoring": {"window": "3h", "min_rows": 777, "psi": [0.13, 0.37], "persistence": [3, 5], "freshness": "9d"},
        "governance": {"retention": "11d"},
        "serving": {"concurrency": 33, "max_rows": 222},
        "registry": {"keep": 17},
        "objectives": {"availability": 0.995, "rate_rps": 70.0},
    }
    for table, keys in changes.items():
        for key, value in keys.items():
            spec: dict[str, Any] = {**known.design.spec, table: {**_table_of(known, table), key: value}}
            other = replace(known, design=known.design.model_copy(update={"spec": spec}))
            assert _pages(other) != _pages(known), f"{table}.{key}"


# ---- what a person does


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    """Whoever is woken finds the alert's own name and what to do."""
    files = documents.render(fake.dossier())
    rules = yaml.safe_load(files["deploy/prometheus/rules.yml"])
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    headings = re.findall(r"^### (.*)$", files["docs/runbook.md"], re.MULTILINE)
    assert {name for heading in headings for name in heading.split(", ")} == alerts


def test_every_finding_of_monitor_has_a_line_in_the_runbook() -> None:
    """The same for what `monitor` says."""
    rows = _table(documents.render(fake.dossier())["docs/runbook.md"], "it says")
    assert {kind for row in rows for kind in row[0].split(", ")} == set(get_args(MonitorKind))


def test_every_metric_of_the_server_is_explained() -> None:
    """The page on monitoring names what /metrics has, and nothing else."""
    rows = _table(documents.render(fake.dossier())["docs/monitoring.md"], "metric")
    named = {name.removesuffix("_total") for row in rows for name in row[0].split(", ")}
    assert named == set(METRICS)


def test_every_make_target_of_a_page_is_there(tmp_path: Path) -> None:
    """`make something` in a page is a target of the Makefile, with the variables that it knows."""
    _deliver(fake.dossier(), tmp_path)
    makefile = (tmp_path / "Makefile").read_text()
    known = {line.split()[1] for line in _make(tmp_path, "help").splitlines()}
    for page in tmp_path.rglob("*.md"):
        for line in re.findall(r"\bmake ((?:[a-z]+ ?)+(?:[A-Z]+=\S+ ?)*)", _code_of(page.read_text())):
            words = line.split()
            assert {word for word in words if "=" not in word} <= known, (page.name, line)
            named = {word.split("=")[0] for word in words if "=" in word}
            assert all(f"$({name})" in makefile or f"$${name}" in makefile for name in named), (page.name, line)


def test_a_target_uses_the_environment_that_the_one_before_it_made(tmp_path: Path) -> None:
    """`make venv check` in a fresh clone, typed in one line as the README does, runs in `.venv`."""
    (tmp_path / "Makefile").write_text(documents.render(fake.dossier())["Makefile"])
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python\necho "$0 $*"\n')
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "--silent", "venv", "check", f"BASE={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.splitlines()[-1] == ".venv/bin/python -m mlsystem check"


def test_every_promise_names_files_that_are_delivered() -> None:
    """A path in deliverables.md is a file, or a directory with files in it."""
    files = [*documents.render(fake.dossier()), *BY_THE_ENGINE, "system.toml", f"vendor/{fake.WHEEL}"]
    for promise in PROMISES:
        for path in promise.files:
            assert path in files or (path.endswith("/") and any(f.startswith(path) for f in files)), path


def test_every_test_that_a_promise_names_is_delivered() -> None:
    """And so is the proof that it rests on."""
    delivered = {path.stem for path in (ROOT / "services/ml_engineer/blueprint/tests").glob("test_*.py")}
    assert {name for promise in PROMISES for name in promise.tests} <= delivered


def test_a_promise_is_proved_by_what_ran_here() -> None:
    """Gates with value and threshold, tests with how many passed and how long they took; a red one by its name."""
    tests = (
        TestResult(name="test_mlsystem_model::test_a", result="passed", seconds=0.25),
        TestResult(name="test_mlsystem_model::test_b", result="failed", seconds=1.5),
    )
    tested = Tested(passed=False, text="1 failed, 1 passed in 1.75s", at="2026-11-24T14:00:00", tests=tests)
    page = documents.render(replace(fake.dossier(), tested=tested))["docs/deliverables.md"]
    rows = _table(page, "where")
    assert ["tests tests/test_mlsystem_model.py", "failed: test_mlsystem_model::test_b. In 1.75 s."] in rows
    assert "**did not pass** at 2026-11-24 14:00:00: 1 failed, 1 passed in 1.75s." in page


def test_without_a_run_nothing_is_called_tested() -> None:
    """A page that was written before the tests says so."""
    assert "have not been run yet" in documents.render(fake.dossier())["docs/deliverables.md"]


@pytest.mark.parametrize(("regime", "asked"), [("gdpr", "article 6"), ("hipaa", "safe harbor"), ("pci", "cardholder")])
def test_a_regime_leaves_open_questions_to_people(regime: str, asked: str) -> None:
    """What no program can answer is asked, never assumed."""
    card = documents.render(_under(fake.dossier(), regime))["docs/model_card.md"]
    assert (asked in card, asked in documents.render(fake.dossier())["docs/model_card.md"]) == (True, False)


@pytest.mark.parametrize("recovered", [True, False])
def test_a_drill_is_a_proof_and_its_failure_heads_the_pages(recovered: bool) -> None:
    """What a copy of the system came through counts like a gate; pages on recovery lead to the record."""
    trial: dict[str, Any] = {"name": "rollback", "ok": recovered, "text": "rollback: 3 of 46 requests failed"}
    trial |= {"recover_s": 0.574, "requests": 46, "failed": 0 if recovered else 3}
    drill: dict[str, Any] = {"at": "2026-11-24T15:00:00Z", "version": 1, "scenarios": [trial]}
    files = documents.render(replace(fake.dossier(), drill=drill))
    took = f"answered 0.57 s after the command was typed, and {trial['failed']} of 46 requests failed"
    assert [took in files[f"docs/{page}.md"] for page in ("deliverables", "rollback", "runbook", "design")] == [
        True
    ] * 4
    told = _first_paragraph(files["README.md"])
    assert told.startswith("All 4 gates passed" if recovered else "1 of 4 gates failed: recovery.")
    said = "passed. 1 failures were played" if recovered else "**failed**. rollback: 3 of 46 requests failed"
    assert f"| gate `recovery` | {said}" in files["docs/deliverables.md"]
    assert all("(drill.md)" in files[f"docs/{page}.md"] for page in ("rollback", "runbook"))


# ---- hostile names


@hostile
def test_no_name_breaks_a_table(name: str) -> None:
    """Pipes, backticks, markup and line breaks in a column's name stay in their cell and are read as they are."""
    text = documents.render(fake.with_column(name, name))["docs/design.md"]
    plain = markdown.one_line(name)
    words = markdown.one_line(f"{name!r} has the value {name!r} at times.")
    assert _table(text, "finding") == [["id_like", plain, "kept", words]]
    assert _table(text, "question")[-1] == ["How fast must an answer be (p99)?", plain, f"/{plain}:3"]


@hostile
def test_no_name_makes_a_heading_or_a_tag(name: str) -> None:
    """The outline of every page is that of its template, and nothing is HTML."""
    plain = documents.render(fake.with_column("x", "x"))
    for path, text in documents.render(fake.with_column(name, name)).items():
        if path.endswith(".md"):
            assert _outline(text) == _outline(plain[path]), path


@given(st.text())
def test_any_text_in_a_cell_is_read_as_it_is(value: str) -> None:
    """Escaping and GitHub's tables are inverse."""
    rows = _table(f"| a | b |\n|---|---|\n| {markdown.cell(value)} | x |\n", "a")
    assert rows == [[markdown.one_line(value) or markdown.NOTHING, "x"]]


@given(st.text(min_size=1))
def test_any_name_as_code_in_a_cell_is_read_as_it_is(value: str) -> None:
    """Backticks and pipes in code included."""
    rows = _table(f"| a | b |\n|---|---|\n| {markdown.cell_code(value)} | x |\n", "a")
    assert rows == [[markdown.one_line(value) or '""', "x"]]


@hostile
def test_no_source_breaks_the_workflow(name: str) -> None:
    """A path is one string in YAML, and no expression for GitHub."""
    known = fake.dossier()
    spec: dict[str, Any] = {**known.design.spec, "data": {"source": [f"../../data/{name}.csv"]}}
    case = replace(known, design=known.design.model_copy(update={"spec": spec}))
    (text,) = documents.render_repository(case).values()
    paths = yaml.safe_load(text)[True]["push"]["paths"]
    watched = () if "${{" in name else View(case).sources_inside
    assert paths == ["ml/customers_binary/**", *watched, ".github/workflows/ml-customers-binary.yml"]
    assert re.findall(r"\$\{\{(?! *github\.)", text) == []


# ---- commands


def test_every_command_of_a_document_is_one_that_the_engine_has() -> None:
    """Each `python -m mlsystem ...` parses with the engine's own parser."""
    files = _all(fake.dossier())
    written = re.compile(r"-m mlsystem ([a-z].*?)(?:`|;|$)", re.MULTILINE)
    found = [command for text in files.values() for command in written.findall(text)]
    assert len(found) >= 8
    for command in found:
        assert _understood(shlex.split(command, comments=True)), command


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("check", "check"),
        ("validate", "validate"),
        ("train", "train"),
        ("evaluate", "evaluate"),
        ("package", "package"),
        ("promote", "promote"),
        ("promote VERSION=2 WHY=because", 'promote 2 --why "$WHY"'),
        ("rollback", "rollback"),
        ("rollback TO=1 WHY=because", 'rollback --to 1 --why "$WHY"'),
        ("history", "history"),
        ("serve HOST=0.0.0.0", "serve --host 0.0.0.0"),
        ("smoke", "smoke"),
        ("smoke URL=http://127.0.0.1:8080", 'smoke --url "$URL"'),
        ("history AT=2026-01-31T12:00", 'history --at "$AT"'),
        ("verify", "registry verify"),
        ("repair", "registry repair"),
        ("compare A=1 B=2", "compare 1 2"),
        ("reproduce VERSION=1", "reproduce 1"),
        ("monitor FAIL=yes", "monitor --out state/monitor.html --fail-on-alert"),
        ("key NAME=shop SCOPES=predict", 'key "$NAME" --scopes "$SCOPES"'),
        ("erase ENTITY=C-1 WHY=asked", 'erase --entity "$ENTITY" --why "$WHY"'),
        *((name, name) for name in ("status", "drill", "materialize", "sbom")),
        ("predict IN=a OUT=b", 'predict --in "$IN" --out "$OUT"'),
    ],
)
def test_make_runs_the_engine_from_the_vendored_wheel(tmp_path: Path, words: str, command: str) -> None:
    """A target is one command of the engine, which takes its arguments."""
    _deliver(fake.dossier(), tmp_path)
    last = _make(tmp_path, "-n", *words.split()).splitlines()[-1]
    assert " ".join(last.split()) == f"PYTHONPATH=vendor/{fake.WHEEL} python3 -m mlsystem {command}"
    assert _understood(shlex.split(command))


def test_a_reason_with_quotes_reaches_the_engine_whole(tmp_path: Path) -> None:
    """`make rollback WHY=...` hands its text over through the environment, not through the shell's grammar."""
    _deliver(fake.dossier(), tmp_path)
    (tmp_path / "spy").write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    (tmp_path / "spy").chmod(0o755)
    said = _make(tmp_path, "rollback", "PYTHON=./spy", 'WHY=it\'s "bad"; touch x')
    assert said.splitlines()[1:] == ["<-m>", "<mlsystem>", "<rollback>", "<--why>", '<it\'s "bad"; touch x>']


def test_make_help_lists_every_target(tmp_path: Path) -> None:
    """The list is made from the Makefile itself."""
    _deliver(fake.dossier(), tmp_path)
    makefile = (tmp_path / "Makefile").read_text().replace("\\\n", "")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert [line.split()[1] for line in _make(tmp_path, "help").splitlines()] == phony.group(1).split()


@parametrized
def test_the_workflow_makes_measures_and_tests_the_model(kind: fake.Kind, outcome: fake.Outcome) -> None:
    """In the system's directory, in the order of the stages, with actions pinned to commits."""
    ((path, text),) = documents.render_repository(fake.dossier(kind, outcome)).items()
    workflow = yaml.safe_load(text)
    job = workflow["jobs"]["model"]
    runs = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    commands = [line.split()[3] for line in runs if line.startswith("python -m mlsystem")]
    assert path == f".github/workflows/ml-customers-{kind}.yml"
    assert workflow["defaults"]["run"]["working-directory"] == f"ml/customers_{kind}"
    assert commands == ["check", "validate", "train", "evaluate", "package", "smoke", "sbom"]
    assert "python -m pytest -q tests" in runs
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.search(r"@[0-9a-f]{40}$", action) for action in used), used


# ---- locks


def test_locks_come_before_training_and_stay_as_they_were() -> None:
    """A lock is an input of training: what is written before it is what is delivered after it."""
    files = documents.render(fake.dossier())
    assert documents.locks(fake.WHEEL, fake.WHEEL_SHA256) == {
        path: files[path] for path in ("requirements/serve.lock", "requirements/train.lock")
    }


@pytest.mark.parametrize("name", ["serve", "train"])
def test_a_lock_pins_what_is_tested_here(name: str) -> None:
    """A delivered system runs on the versions and files that this repository runs on."""
    here = _pins((ROOT / "deploy/requirements/dev.txt").read_text())
    pins = _pins(documents.locks(fake.WHEEL, fake.WHEEL_SHA256)[f"requirements/{name}.lock"])
    assert {package: here.get(package) for package in pins} == pins


def test_the_serving_lock_is_the_smaller_one() -> None:
    """Whatever serves also trains; nothing that trains is needed to serve."""
    locks = documents.locks(fake.WHEEL, fake.WHEEL_SHA256)
    serve, train = (set(_pins(locks[f"requirements/{name}.lock"])) for name in ("serve", "train"))
    assert serve < train
    assert {"duckdb", "lightgbm", "onnx", "pytest", "scikit-learn", "scipy", "threadpoolctl"} <= train - serve


def test_pip_takes_the_vendored_wheel_and_no_other(tmp_path: Path) -> None:
    """The path in the lock is right from the system's directory, and so is the hash."""
    built = wheel.build(tmp_path / "vendor")
    digest = _sha256(built)
    _write_wheel_lock(tmp_path, documents.locks(built.name, digest)["requirements/serve.lock"])
    taken = _pip(tmp_path)
    built.write_bytes(built.read_bytes() + b"changed")
    refused = _pip(tmp_path)
    assert (taken.returncode, refused.returncode) == (0, 1)
    assert "DO NOT MATCH THE HASHES" in refused.stderr


# ---- reading what was written


def _all(known: Dossier) -> dict[str, str]:
    return {**documents.render(known), **documents.render_repository(known)}


def _pages(known: Dossier) -> dict[str, str]:
    return {path: text for path, text in documents.render(known).items() if path.endswith(".md")}


def _figures(metrics: Mapping[str, Mapping[str, float | None]]) -> list[float]:
    return [value for row in metrics.values() for value in row.values() if value is not None]


def _remeasured(known: Dossier) -> Iterator[tuple[str, Dossier]]:
    """The same engagement with one figure changed, for every figure of the record."""
    found = known.evaluation
    for name, row in found.metrics.items():
        for column, value in row.items():
            if value is not None and name not in {"latency_ms_p50", "latency_ms_p99"}:
                changed = {**found.metrics, name: {**row, column: value * 1.37 + 0.011}}
                yield f"{name}.{column}", _evaluated(known, metrics=changed)
    for gate in found.gates:
        gates = tuple(one.model_copy(update={"value": 0.1234}) if one.name == gate.name else one for one in found.gates)
        yield f"gate {gate.name}", _evaluated(known, gates=gates)
    for key in ("p50_ms", "p99_ms", "rate_rps"):
        yield key, _evaluated(known, latency={**found.latency, key: 77.7})
    yield "memory_mb", _evaluated(known, memory_mb=211.3)
    yield "model_mb", _evaluated(known, model_mb=7.31)
    yield "holdout", _evaluated(known, holdout={"rows": 431, "opened": 1})
    yield "opened", _evaluated(known, holdout={"rows": 400, "opened": 3})
    yield "rows", replace(known, profile=known.profile.model_copy(update={"rows": 2345}))
    split = known.validation.split.model_copy(update={"train": 1555})
    yield "train", replace(known, validation=known.validation.model_copy(update={"split": split}))
    yield "wall_s", replace(known, training=known.training.model_copy(update={"wall_s": 44.4}))
    yield "version", replace(known, packaged=known.packaged.model_copy(update={"version": 7}))


def _all_remeasured(known: Dossier) -> Dossier:
    metrics = {
        name: {column: None if value is None else value * 1.37 + 0.0113 for column, value in row.items()}
        for name, row in known.evaluation.metrics.items()
    }
    return _evaluated(known, metrics=metrics)


def _evaluated(known: Dossier, **update: object) -> Dossier:
    return replace(known, evaluation=known.evaluation.model_copy(update=update))


def _table_of(known: Dossier, table: str) -> dict[str, Any]:
    found = known.design.spec.get(table)
    return found if isinstance(found, dict) else {}


def _under(known: Dossier, regime: str) -> Dossier:
    spec: dict[str, Any] = {**known.design.spec, "governance": {"regime": [regime]}}
    return replace(known, design=known.design.model_copy(update={"spec": spec}))


def _code_of(page: str) -> str:
    """What stands in code, in lines and in blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))])


def _tied(known: Dossier) -> Dossier:
    return replace(known, evaluation=known.evaluation.model_copy(update={"tie_with_linear": True}))


def _unmeasured(known: Dossier) -> Dossier:
    """The same engagement with a server that did not answer, and with nothing that may be left out."""
    nothing: Mapping[str, object] = {"p50_ms": None, "p99_ms": None, "rate_rps": None, "seconds": None}
    metrics = {name: row for name, row in known.evaluation.metrics.items() if not name.startswith(("latency", "rows"))}
    metrics = {name: {**row, "low": float("nan")} for name, row in metrics.items()}
    evaluation = {"latency": nothing, "memory_mb": None, "model_mb": None, "holdout": {}, "metrics": metrics}
    return replace(
        known,
        known={},
        evaluation=known.evaluation.model_copy(update=evaluation),
        validation=known.validation.model_copy(update={"findings": (), "snapshot": {}}),
        training=known.training.model_copy(update={"calibration": None, "candidates": ()}),
        design=known.design.model_copy(update={"assumptions": ()}),
    )


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text)


def _table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`, as a reader sees them."""
    rows: list[list[str]] = []
    tables: list[list[list[str]]] = []
    for token in _tokens(text):
        if token.type == "table_open":
            tables.append(rows := [])
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level >= 4:
            rows[-1].append(_seen(token))
    return next(table[1:] for table in tables if table[0][0] == first)


def _seen(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])


def _first_paragraph(text: str) -> str:
    tokens = _tokens(text)
    place = next(index for index, token in enumerate(tokens) if token.type == "paragraph_open")
    return _seen(tokens[place + 1])


def _outline(text: str) -> list[tuple[str, str]]:
    """Every block of a page by its kind, and every tag, link, image and emphasis in it but code and words."""
    found: list[tuple[str, str]] = []
    for token in _tokens(text):
        found.append((token.type, token.tag))
        inside = token.children or []
        found.extend((t.type, "link" if t.attrs.get("href") else "") for t in inside if t.type not in _WORDS)
    return found


_WORDS: Final = frozenset({"text", "code_inline", "softbreak", "text_special"})


def _example(text: str) -> object:
    found = re.search(r"<<'ROW'\n(.*?)\nROW\n", text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def _pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version and hashes."""
    return {name: (version, hashes) for name, version, hashes in _read_lock(lock)}


def _read_lock(lock: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    for block in re.split(r"\n(?=\S)", lock):
        if found := re.match(r"([a-z0-9-]+)==(\S+)", block):
            hashes = frozenset(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
            assert hashes, block
            yield found.group(1), found.group(2), hashes


def _understood(words: list[str]) -> bool:
    """Whether the engine has this command with these flags, and takes as many words beside them."""
    flags = {flag for names, _ in COMMANDS[words[0]].arguments for flag in names if flag.startswith("-")}
    places = sum(not names[0].startswith("-") for names, _ in COMMANDS[words[0]].arguments)
    switches = {flag for names, how in COMMANDS[words[0]].arguments if how.get("action") for flag in names} | {"--json"}
    given = [word for word in words if word.startswith("--")]
    values = sum(word not in switches for word in given)
    return set(given) <= flags | switches and len(words) - 1 - len(given) - values <= places


def _deliver(known: Dossier, directory: Path) -> None:
    for path, text in documents.render(known).items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")


def _make(directory: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words], cwd=directory, env=environment, capture_output=True, text=True, check=True
    ).stdout


def _python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_wheel_lock(directory: Path, lock: str) -> None:
    """The lock without third-party lines, which would need a registry."""
    (directory / "requirements").mkdir()
    lines = lock[lock.index("./vendor/") :]
    (directory / "requirements/serve.lock").write_text(lines, encoding="utf-8")


def _pip(directory: Path) -> subprocess.CompletedProcess[str]:
    command = ["install", "--quiet", "--no-index", "--no-deps", "--dry-run", "--ignore-installed", "--require-hashes"]
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *command, "-r", "requirements/serve.lock"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
