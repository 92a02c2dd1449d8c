"""Answers from a command line and from a file."""

from pathlib import Path

import pytest

from contracts.slots import QUESTION_IDS
from services.gateway.answers import gathered
from services.gateway.exits import Usage


def answers_file(directory: Path, text: str | bytes) -> str:
    path = directory / "answers.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_tables_are_slots_and_keys_are_fields(tmp_path: Path) -> None:
    """Values keep the type that TOML gives them."""
    text = '[nfr]\nlatency = "20 ms"\navailability = 0.999\n[security]\nregime = ["gdpr", "pci"]\npii = false\n'
    assert gathered((), answers_file(tmp_path, text)) == {
        "nfr.latency": "20 ms",
        "nfr.availability": 0.999,
        "security.regime": ["gdpr", "pci"],
        "security.pii": False,
    }


def test_an_answer_on_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    """A value may hold anything, `=` included."""
    file = answers_file(tmp_path, '[nfr]\nlatency = "20 ms"\n[business]\nkpi = "auc"\n')
    assert gathered(["nfr.latency= p99=5 ms "], file) == {"nfr.latency": "p99=5 ms", "business.kpi": "auc"}


@pytest.mark.parametrize("pair", ["nfr.latency", "nfr.latency=", "nfr.latency=  "])
def test_a_pair_without_a_value_is_no_answer(pair: str) -> None:
    """The message shows how one is written."""
    with pytest.raises(Usage, match=r"'nfr\.latency' is no answer: write it as slot\.field=value"):
        gathered([pair], None)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("nfr.latncy", "nfr.latency"), ("task.latency", "nfr.latency"), ("target", "task.target")],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(key: str, nearest: str) -> None:
    """By the whole id, else by the field alone."""
    with pytest.raises(Usage, match=f"nothing is asked under {key!r}, did you mean {nearest!r}"):
        gathered([f"{key}=1"], None)


def test_a_key_like_nothing_is_refused_with_all_names() -> None:
    """So that one need not guess again."""
    with pytest.raises(Usage) as caught:
        gathered(["zzz=1"], None)
    assert str(caught.value) == f"nothing is asked under 'zzz': known are {', '.join(QUESTION_IDS)}"


def test_all_unknown_keys_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    """With the file they stand in."""
    file = answers_file(tmp_path, "[nfr]\nlatncy = 1\navailabilty = 2\n")
    with pytest.raises(Usage) as caught:
        gathered((), file)
    assert str(caught.value) == (
        f"answers file {file}: nothing is asked under 'nfr.latncy', did you mean 'nfr.latency'?;"
        " nothing is asked under 'nfr.availabilty', did you mean 'nfr.availability'?"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("latency = 1\n", r"'latency' stands outside a table: write it under one of \[task\], \[business\]"),
        ("[nfr\n", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ("[nfr]\nlatency = 1979-05-27\n", "nfr.latency is a date: an answer is a text"),
        ("[nfr]\nlatency = [1, 2]\n", "nfr.latency is a list: an answer is a text"),
        ("[nfr.latency]\nms = 1\n", "nfr.latency is a dict: an answer is a text"),
    ],
)
def test_a_file_that_holds_no_answers_says_what_is_wrong(text: str | bytes, problem: str, tmp_path: Path) -> None:
    """Each names the file."""
    file = answers_file(tmp_path, text)
    with pytest.raises(Usage, match=problem) as caught:
        gathered((), file)
    assert file in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason of the system."""
    missing = tmp_path / "none.toml"
    with pytest.raises(Usage, match=f"answers file {missing} cannot be read: No such file or directory"):
        gathered((), str(missing))
