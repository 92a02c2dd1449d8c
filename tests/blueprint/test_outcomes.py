"""POST /outcomes: what happened reaches the prediction that it belongs to, or the caller is told that it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlsystem.registry import Note, Registry
from mlsystem.schema import Column
from mlsystem.serving.answers import Refusal
from mlsystem.serving.process import Listening, serving
from mlsystem.serving.routes.outcomes import read_outcomes
from mlsystem.state import Joined, Outcome, open_state
from tests.blueprint.asking import PATIENCE_S, Answer, ask, predict
from tests.blueprint.small_system import REGRESSION, ROW, SCHEMA, classifier, make_system, package_files, write_package

ENTITY = msgspec.structs.replace(
    SCHEMA, columns=(*SCHEMA.columns, Column(name="household", type="category", role="entity", distinct=9))
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Listening, Path]]:
    """A system whose rows have an entity, served with a state."""
    root = tmp_path_factory.mktemp("system")
    registry: Registry = make_system(root, max_rows=100)
    registry.register(package_files(classifier(), ENTITY), "digest", Note("a test", "", {"servable": True}))
    registry.promote(1, Note("a test", ""))
    with serving(root) as server:
        yield server, root


def tell(url: str, *outcomes: object) -> Answer:
    return ask(url, "POST", "/outcomes", json.dumps({"outcomes": outcomes}).encode())


def predicted(server: Listening, root: Path, *households: str) -> list[str]:
    """Return the ids of one prediction a household, once they are written."""
    found = answered(server.url, *households)
    deadline = time.monotonic() + PATIENCE_S
    while not kept(root).keys() >= set(found):
        assert time.monotonic() < deadline, "they were not written in time"
    return found


def answered(url: str, *households: str) -> list[str]:
    """Return the ids of one prediction a household."""
    answer = predict(url, *({**ROW, "household": household} for household in households))
    return [prediction["id"] for prediction in answer.json["predictions"]]


def kept(root: Path) -> dict[str, Joined]:
    state = open_state("sqlite:state/serving.db", root)
    try:
        return {joined.captured.id: joined for joined in state.captures(since=0.0, until=time.time() + 1)}
    finally:
        state.close()


def test_outcomes_told_at_once_by_id_are_joined_and_told_again_are_duplicates(system: tuple[Listening, Path]) -> None:
    """The prediction may not even be written when its outcome comes: it is waited for."""
    server, root = system
    first, second = answered(server.url, "A", "B")
    answer = tell(
        server.url, {"id": first, "actual": "Yes"}, {"id": second, "actual": "No"}, {"id": "x", "actual": "No"}
    )
    again = tell(server.url, {"id": first, "actual": "Yes"})
    assert (answer.status, answer.json) == (202, {"accepted": 2, "unknown": 1, "duplicate": 0})
    assert (again.status, again.json) == (202, {"accepted": 0, "unknown": 0, "duplicate": 1})
    assert [(kept(root)[name].actual) for name in (first, second)] == ["Yes", "No"]


def test_an_outcome_by_entity_belongs_to_the_newest_prediction_until_its_time(system: tuple[Listening, Path]) -> None:
    server, root = system
    (early,) = predicted(server, root, "C")
    between = time.time()
    (late,) = predicted(server, root, "C")
    answer = tell(server.url, {"entity": "C", "time": between, "actual": "No"})
    now = tell(server.url, {"entity": "C", "time": time.time(), "actual": "Yes"})
    before = tell(server.url, {"entity": "C", "time": "2020-01-01T00:00:00Z", "actual": "No"})
    assert (answer.json["accepted"], now.json["accepted"], before.json["unknown"]) == (1, 1, 1)
    assert [kept(root)[name].actual for name in (early, late)] == ["No", "Yes"]


def test_one_bad_outcome_refuses_all_of_them_and_is_named(system: tuple[Listening, Path]) -> None:
    server, root = system
    (prediction,) = predicted(server, root, "D")
    answer = tell(server.url, {"id": prediction, "actual": "Yes"}, {"id": prediction, "actual": "Perhaps"})
    assert (answer.status, answer.error["code"], answer.error["details"]) == (
        422,
        "invalid_outcomes",
        [{"row": 1, "column": "actual", "reason": "is none of the labels No, Yes", "got": "Perhaps"}],
    )
    assert tell(server.url, {"id": prediction, "actual": "Yes"}).json["accepted"] == 1
    assert kept(root)[prediction].actual == "Yes"


def test_too_many_outcomes_and_what_is_no_list_of_them_are_refused(system: tuple[Listening, Path]) -> None:
    url = system[0].url
    many = tell(url, *[{"id": "x", "actual": "Yes"}] * 101)
    none = tell(url)
    other = ask(url, "POST", "/outcomes", b"[]")
    assert (many.status, many.error["limit"]) == (413, {"name": "serving.max_rows", "value": 100})
    assert [(a.status, a.error["code"]) for a in (none, other)] == [(422, "no_outcomes"), (422, "invalid_shape")]


def test_outcomes_of_unknown_predictions_do_not_crowd_out_others(system: tuple[Listening, Path]) -> None:
    """A few wait for their prediction, which may just be written; the others are told at once that it is unknown."""
    url = system[0].url
    with ThreadPoolExecutor(24) as threads:
        started = time.monotonic()
        told = [threads.submit(lambda: (tell(url, {"id": "x", "actual": "No"}), time.monotonic())) for _ in range(24)]
        answers = [found.result() for found in told]
    assert {(answer.status, answer.json["unknown"]) for answer, _ in answers} == {(202, 1)}
    waited = [at - started for _, at in answers]
    assert min(waited) < 1.5 <= max(waited)


def test_a_server_without_state_says_so(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier())
    with serving(package, "--package", str(package)) as server:
        answer = tell(server.url, {"id": "x", "actual": "Yes"})
    assert (answer.status, answer.error["code"]) == (503, "no_state")


@pytest.mark.parametrize(
    ("item", "column", "words"),
    [
        (7, "", "must be an object"),
        ({"actual": "Yes"}, "id", "by `id`, or by `entity`"),
        ({"id": "a", "entity": "b", "actual": "Yes"}, "id", "not by both"),
        ({"id": "a"}, "actual", "missing"),
        ({"id": "", "actual": "Yes"}, "id", "between 1 and 500 characters"),
        ({"id": "a" * 501, "actual": "Yes"}, "id", "between 1 and 500 characters"),
        ({"id": ["a"], "actual": "Yes"}, "id", "must be a text"),
        ({"id": "a", "actual": None}, "actual", "is none of the labels"),
        ({"id": "a", "actual": ["Yes"]}, "actual", "is none of the labels"),
        ({"entity": "a", "actual": "Yes"}, "time", "missing"),
        ({"entity": "a", "actual": "Yes", "time": "soon"}, "time", "is no time such as"),
        ({"entity": "a", "actual": "Yes", "time": None}, "time", "must be a text such as"),
        ({"entity": "a", "actual": "Yes", "time": float("inf")}, "time", "must be a text such as"),
    ],
)
def test_an_outcome_that_cannot_be_taken_is_told_why(item: object, column: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_outcomes({"outcomes": [item]}, SCHEMA, 10, 0.0)
    (detail,) = refused.value.error.details
    assert (refused.value.status, detail.column, words in detail.reason) == (422, column, True)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(7, 7.0), ("7.5", 7.5), (" $1,000 ", 1000.0), (True, None), ("much", None), (float("nan"), None), (10**400, None)],
)
def test_the_outcome_of_a_regression_is_a_number_as_in_the_data(actual: object, expected: float | None) -> None:
    content: Any = {"outcomes": [{"id": "a", "actual": actual}]}
    if expected is None:
        with pytest.raises(Refusal):
            read_outcomes(content, REGRESSION, 10, 3.0)
    else:
        assert read_outcomes(content, REGRESSION, 10, 3.0) == [Outcome(expected, 3.0, id="a")]


def test_labels_are_known_by_their_canonical_text() -> None:
    """True is true, 1.0 is 1, blanks around a label are none: as in the columns of a row."""
    flags = msgspec.structs.replace(SCHEMA, task=msgspec.structs.replace(SCHEMA.task, labels=("0", "1")))
    words = msgspec.structs.replace(SCHEMA, task=msgspec.structs.replace(SCHEMA.task, labels=("False", "True")))
    content: Any = {"outcomes": [{"id": "a", "actual": actual} for actual in (1, 1.0, "1.0", " 1 ")]}
    assert {outcome.actual for outcome in read_outcomes(content, flags, 10, 0.0)} == {"1"}
    (outcome,) = read_outcomes(
        {"outcomes": [{"entity": 3.0, "time": "2024-01-31T00:00:00+01:00", "actual": True}]}, words, 9, 0.0
    )
    assert outcome == Outcome("True", 0.0, entity="3", time=1706655600.0)
