"""system.toml: everything that is wrong is named at once, and nothing is ignored."""

from __future__ import annotations

import tomllib
from argparse import Namespace
from pathlib import Path

import jsonschema
import pytest

from mlsystem.errors import SpecError
from mlsystem.output import Reporter
from mlsystem.spec import KEYS, Problem, Spec, check, examine, json_schema, read_spec, seconds, settings, size_bytes

LEAST = 'format = 1\nname = "made"\n[task]\nkind = "binary"\ntarget = "left"\n[data]\nsource = ["rows.csv"]\n'


def problems(text: str) -> list[Problem]:
    return list(examine(tomllib.loads(text))[1])


def codes(text: str) -> list[tuple[str, str]]:
    return [(problem.code, problem.key) for problem in problems(text)]


def spec_of(text: str) -> Spec:
    spec, found = examine(tomllib.loads(text))
    assert found == ()
    assert spec is not None
    return spec


def test_five_keys_are_enough_and_the_rest_has_defaults() -> None:
    spec = spec_of(LEAST)
    assert (spec.split.holdout, spec.search.seed, spec.gates.parity, spec.serving.port) == (0.2, 7, 1e-5, 8080)


def test_every_key_of_the_spec_stands_in_the_table_of_keys() -> None:
    """KEYS is the one list of what there is and what takes effect."""
    spec = spec_of(f'{LEAST}[columns.plan]\nrole = "feature"\n')
    known = {pattern for _, pattern, _, _ in settings(spec)}
    assert known | {"derive.*"} == set(KEYS)


def test_all_unknown_keys_are_named_at_once_with_the_nearest_known_one() -> None:
    """A walk over the keys comes before anything else, so a person corrects the file once."""
    text = LEAST.replace("[data]", "[data]\nreader = {delimter = ';'}") + "seed = 3\n[serch]\nbudget = '9s'\n"
    found = {problem.key: problem.nearest for problem in problems(text)}
    assert found == {"data.reader.delimter": "data.reader.delimiter", "data.seed": "search.seed", "serch": "search"}


def test_a_key_in_the_wrong_table_is_told_where_it_belongs() -> None:
    (problem,) = problems(f"{LEAST}[split]\nmax_rows = 3\n")
    assert (problem.key, problem.nearest) == ("split.max_rows", "serving.max_rows")


def test_missing_keys_and_wrong_values_come_in_the_same_answer_as_unknown_ones() -> None:
    text = 'name = "Not A Name"\n[task]\nkind = "binry"\n[data]\nsource = []\n[split]\nholdout = 0.9\n[x]\n'
    assert codes(text) == [
        ("bad_value", "name"),
        ("bad_value", "task.kind"),
        ("missing_key", "task.target"),
        ("bad_value", "data.source"),
        ("bad_value", "split.holdout"),
        ("unknown_key", "x"),
        ("missing_key", "format"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[search]\nbudget = '60'", 'search.budget must be a duration such as "60s", "15m" or "30d", got "60"'),
        ("[search]\nthreads = 'two'", 'search.threads must be a whole number, got "two"'),
        ("[serving]\nmax_body = '4MB'", 'serving.max_body must be a size such as "4MiB", got "4MB"'),
        ("[split]\nmethod = 'tme'", 'split.method must be one of "auto", "time", "group", "random", got "tme"'),
        ("[serving]\nreplicas = 3", "serving.replicas must be a table, got 3"),
        ("[gates]\nparity = -1", "gates.parity must be a number >= 0.0, got -1"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_expected(line: str, message: str) -> None:
    assert [problem.message for problem in problems(f"{LEAST}{line}\n")] == [message]


def test_a_column_may_have_dots_in_its_name() -> None:
    (problem,) = problems(f'{LEAST}[columns."a.b"]\nrol = "id"\n')
    assert (problem.key, problem.nearest) == ("columns.a.b.rol", "columns.a.b.role")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("[decision]\nthreshold = 0.3", "decision.threshold"),
        ("[columns.age]\nprotected = true", "columns.age.protected"),
        ("[search]\ntrials = 5", "search.trials"),
    ],
)
def test_a_key_without_effect_is_refused_when_it_is_set(line: str, key: str) -> None:
    """Never ignored: whoever sets a key is told that it does nothing yet."""
    assert codes(f"{LEAST}{line}\n") == [("not_supported_yet", key)]


def test_the_default_of_a_key_without_effect_may_be_written_down() -> None:
    assert codes(f"{LEAST}[rollout]\nalpha = 0.02\n[decision]\nthreshold = 'auto'\n") == []


def test_forecasting_is_refused_with_what_works_instead() -> None:
    assert codes(LEAST.replace('"binary"', '"forecast"\nmetric = "mase"')) == [
        ("not_supported_yet", "task.kind"),
        ("not_supported_yet", "task.metric"),
    ]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('kind = "binary"', 'kind = "regression"\nmetric = "roc_auc"'), "task.metric"),
        (('kind = "binary"', 'kind = "multiclass"\npositive = "a"'), "task.positive"),
        (("[data]", '[split]\nmethod = "time"\n[data]'), "split.method"),
        (("[data]", '[split]\nmethod = "group"\n[data]'), "split.method"),
        (("[data]", '[data]\ntime = "left"'), "data.time"),
    ],
)
def test_values_that_contradict_each_other_are_refused(change: tuple[str, str], key: str) -> None:
    assert codes(LEAST.replace(*change)) == [("bad_value", key)]


def test_check_fails_with_every_problem_in_its_result(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(f"{LEAST}[serch]\n", encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        check(tmp_path, Namespace(), Reporter("json"))
    assert (refused.value.exit_code, refused.value.details) == (2, tuple(refused.value.result["problems"]))  # type: ignore[arg-type]


def test_check_returns_the_spec_with_all_defaults_filled_in(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(LEAST, encoding="utf-8")
    result = check(tmp_path, Namespace(), Reporter("json"))
    assert (result["problems"], set(KEYS) >= {f"task.{key}" for key in result["spec"]["task"]}) == ([], True)  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "code"), [(None, "no_spec"), (b"format = = 1", "bad_spec"), (b"name = '\xff'", "bad_spec")]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / "system.toml").write_bytes(content)
    with pytest.raises(SpecError) as refused:
        read_spec(tmp_path)
    assert refused.value.code == code


def test_the_json_schema_takes_a_good_spec_and_refuses_a_bad_one() -> None:
    """Editors and structured output check against the same definition."""
    validator = jsonschema.Draft202012Validator(json_schema())
    assert [
        validator.is_valid(tomllib.loads(LEAST)),
        validator.is_valid(tomllib.loads(LEAST.replace("left", ""))),
        validator.is_valid(tomllib.loads(f"{LEAST}[serch]\n")),
    ] == [True, False, False]


def test_the_json_schema_describes_every_key() -> None:
    tables = json_schema()["$defs"]
    leaves = [field for table in tables.values() for field in table["properties"].values() if "$ref" not in field]
    blank = [field for field in leaves if "description" not in field and "additionalProperties" not in field]
    assert blank == []


def test_durations_and_sizes_are_read_in_their_units() -> None:
    assert ([seconds(text) for text in ("250ms", "1.5s", "15m", "2h", "30d")], size_bytes("1.5MiB")) == (
        [0.25, 1.5, 900.0, 7200.0, 2_592_000.0],
        1_572_864,
    )


def test_a_value_is_found_by_its_dotted_key_or_by_its_table() -> None:
    spec = spec_of(LEAST)
    assert (spec.value("search.seed"), spec.value("kpi")) == (7, {"name": "", "target": 0.0})
