"""Which data a request is about: in the workspace and nowhere else."""

import re
from pathlib import Path

import pytest

from contracts.events import AnswerValue
from services._runtime.errors import Permanent
from services.ml_engineer.slots import Known
from services.ml_engineer.sources import Found, find
from tests.services.ml_engineer.made import fact


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with one table in a folder, beside a table that is not in it."""
    root = tmp_path.resolve() / "shop"
    (root / "data").mkdir(parents=True)
    (root / "data" / "churn.csv").write_text("a,b\n1,2\n")
    (tmp_path / "outside.csv").write_text("a,b\n1,2\n")
    return root


def found(workspace: Path, *said: str) -> tuple[str, ...]:
    """The data that these words name."""
    return find(workspace, said=said, answered=None, facts=()).paths


def answered(value: AnswerValue) -> Known:
    """An answer to `task.data`."""
    return Known("task.data", value, "answer", "an answer")


@pytest.mark.parametrize("said", ["data/churn.csv", "/data/churn.csv", "./data/churn.csv", "churn.csv"])
def test_a_named_file_is_found_also_by_its_name_alone(workspace: Path, said: str) -> None:
    """People name the file, not where it lies; messages are rooted at the workspace."""
    assert found(workspace, said) == ("/data/churn.csv",)


def test_a_pattern_names_the_files_that_it_fits_and_stays_a_pattern(workspace: Path) -> None:
    """So that a file which comes later is learnt from too; a link that leads out is not followed."""
    assert found(workspace, "data/ch*.csv") == ("/data/ch*.csv",)
    (workspace / "data" / "chosen.csv").symlink_to(workspace.parent / "outside.csv")
    for pattern in ("data/ch*.csv", "data/none-*.csv"):
        with pytest.raises(Permanent, match="there is no file"):
            found(workspace, pattern)


def test_an_absolute_path_and_a_file_url_count_inside_the_workspace(workspace: Path) -> None:
    """However they are written; a URL is decoded."""
    (workspace / "my data.csv").write_text("a\n1\n")
    assert found(workspace, str(workspace / "data" / "churn.csv")) == ("/data/churn.csv",)
    assert found(workspace, (workspace / "my data.csv").as_uri()) == ("/my data.csv",)
    assert found(workspace, "my data.csv", "churn.csv") == ("/my data.csv", "/data/churn.csv")


@pytest.mark.parametrize("said", ["/outside.csv", "outside.csv", "{root}/outside.csv", "/etc/passwd", "data", "data/"])
def test_what_lies_outside_or_is_no_file_is_not_there(workspace: Path, said: str) -> None:
    """Absolute paths of other places are not read, a directory is no file."""
    with pytest.raises(Permanent, match=r"there is no file .* Name an existing file\."):
        found(workspace, said.format(root=workspace.parent))


@pytest.mark.parametrize("said", ["../outside.csv", "data/../../outside.csv", "data/../data/churn.csv"])
def test_a_path_with_dots_is_refused(workspace: Path, said: str) -> None:
    """Also where it would lead back in: nobody has to think about it."""
    with pytest.raises(Permanent, match="leads out of the workspace: name a file inside it"):
        found(workspace, said)


def test_a_link_that_leads_out_is_refused_and_a_link_inside_is_followed(workspace: Path) -> None:
    """By its path, and by its name alone; it does not get in the way of other names either."""
    (workspace / "data" / "link.csv").symlink_to(workspace.parent / "outside.csv")
    (workspace / "inner.csv").symlink_to(workspace / "data" / "churn.csv")
    with pytest.raises(Permanent, match="leads out of the workspace"):
        found(workspace, "data/link.csv")
    with pytest.raises(Permanent, match="there is no file"):
        found(workspace, "link.csv")
    with pytest.raises(Permanent, match=r"the nearest are /data/churn\.csv"):
        found(workspace, "data/churm.csv")
    assert found(workspace, "inner.csv") == ("/inner.csv",)


def test_a_missing_file_is_told_with_the_nearest_names(workspace: Path) -> None:
    """What to do is in the sentence."""
    with pytest.raises(Permanent) as caught:
        found(workspace, "data/churns.csv")
    assert str(caught.value) == (
        f"there is no file 'data/churns.csv' in the workspace {workspace}: the nearest are /data/churn.csv."
        " Name an existing file."
    )
    with pytest.raises(Permanent, match="it holds no data file of a similar name"):
        found(workspace, "zzz.parquet")


def test_a_name_that_several_files_have_is_told_with_their_paths(workspace: Path) -> None:
    """Neither is guessed; working directories and delivered systems are not looked into."""
    for folder in ("old", "ml/churn/data", ".git", "node_modules"):
        (workspace / folder).mkdir(parents=True)
        (workspace / folder / "churn.csv").write_text("a\n1\n")
    with pytest.raises(Permanent, match=re.escape("/data/churn.csv, /old/churn.csv")):
        found(workspace, "churn.csv")


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https://example.com/churn.csv", "https"),
        ("s3://bucket/churn.csv", "s3"),
        ("postgres://me:secret@db/x", "postgres"),
    ],
)
def test_data_behind_an_address_is_refused_with_what_to_do(workspace: Path, said: str, scheme: str) -> None:
    """Never another file instead, and no password in a message."""
    with pytest.raises(Permanent, match=rf"behind a {scheme}:// address.*put a copy into the workspace") as caught:
        found(workspace, said)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["churn.csv", ["/data/churn.csv"], " /data/churn.csv "])
def test_an_answer_wins_over_what_the_request_says(workspace: Path, value: AnswerValue) -> None:
    """The question was asked because the request did not decide."""
    result = find(workspace, said=("gone.csv",), answered=answered(value), facts=())
    assert result == Found(("/data/churn.csv",), answered(value))


def test_the_only_data_set_of_the_workspace_is_taken_with_its_source(workspace: Path) -> None:
    """The briefing says where it is; delivered systems hold data too, and those are not meant."""
    facts = (
        fact("data.dataset", "/data/churn.csv: 2 columns: a, b; 1 rows", source="/data/churn.csv:1"),
        fact("data.dataset", "/ml/churn/data/x.csv: 1 column", source="/ml/churn/data/x.csv:1"),
        fact("data.dataset", "/gone.csv: 1 column", source="/gone.csv:1"),
    )
    assert find(workspace, said=(), answered=None, facts=facts) == Found(
        ("/data/churn.csv",), Known("task.data", ["/data/churn.csv"], "workspace", "/data/churn.csv:1")
    )


def test_several_data_sets_or_none_are_a_question_without_a_default(workspace: Path) -> None:
    """With what was seen as evidence."""
    (workspace / "b.csv").write_text("a\n1\n")
    facts = (
        fact("data.dataset", "/data/churn.csv: 2 columns", source="/data/churn.csv:1"),
        fact("data.dataset", "/b.csv: 1 column", source="/b.csv:1"),
    )
    several = find(workspace, said=(), answered=None, facts=facts)
    assert several.question is not None
    assert (several.paths, several.known) == ((), None)
    assert (several.question.id, several.question.default) == ("task.data", None)
    assert several.question.evidence == ("/data/churn.csv (/data/churn.csv:1)", "/b.csv (/b.csv:1)")
    nothing = find(workspace, said=(), answered=None, facts=())
    assert nothing.question is not None
    assert nothing.question.evidence == ("no data file was found here",)
