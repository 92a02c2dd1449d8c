"""Tables by their heads: columns, delimiter, rows; never a value."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.context_manager.facts.datasets import personal
from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.tables import HEAD_BYTES, Table, delimited
from tests.services.context_manager.workspaces import stored_bytes, write


def head(text: str, *, tabbed: bool = False) -> Table:
    size = len(text.encode())
    return delimited(text, size, size, tabbed=tabbed)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("a,b\n1,2\n3,4\n", Table(("a", "b"), 2, 2, exact=True, delimiter=",")),
        ("a;b\n1,5;2,5\n", Table(("a", "b"), 2, 1, exact=True, delimiter=";")),
        ("a|b|c\n1|2|3\n", Table(("a", "b", "c"), 3, 1, exact=True, delimiter="|")),
        ('"a, x",b\n"1\n2",3\n', Table(("a, x", "b"), 2, 1, exact=True, delimiter=",")),
        ("only\n1\n2\n", Table(("only",), 1, 2, exact=True, delimiter=",")),
        ("id,2019,2020\n1,2,3\n", Table(("id", "2019", "2020"), 3, 1, exact=True, delimiter=",")),
        ("1,2.5,x\n2,3.5,y\n", Table((), 3, 2, exact=True, delimiter=",")),
        ("Ada,x\nBob,x\n", Table((), 2, 2, exact=True, delimiter=",")),
        ("ada@example.org,yes\nbob@example.org,no\n", Table((), 2, 2, exact=True, delimiter=",")),
        ("a,b\n", Table(("a", "b"), 2, 0, exact=True, delimiter=",")),
        ("\n\na,b\n1,2\n", Table(("a", "b"), 2, 1, exact=True, delimiter=",")),
        ("", Table((), 0, 0, exact=True, delimiter=",")),
    ],
)
def test_the_head_of_a_table_tells_its_shape(text: str, table: Table) -> None:
    """Without a header the first row is a row, and its values are nobody's business."""
    assert head(text) == table


def test_a_tab_separated_file_is_taken_at_its_name() -> None:
    """Commas in it are text."""
    assert head("a\tb, c\n1\t2, 3\n", tabbed=True).columns == ("a", "b, c")


def test_rows_of_a_large_file_are_estimated_from_its_size() -> None:
    """Only the head is read, and the estimate is near."""
    rows = [f"{n},{n * 7 % 1000},{'x' * (n % 5)}" for n in range(40_000)]
    text = "id,amount,word\n" + "\n".join(rows) + "\n"
    table = delimited(text[:HEAD_BYTES], HEAD_BYTES, len(text), tabbed=False)
    assert (table.columns, table.exact) == (("id", "amount", "word"), False)
    assert 0.85 < table.rows / 40_000 < 1.25


def facts(memory: KnowledgeBase) -> Mapping[str, list[str]]:
    found = dict[str, list[str]]()
    for fact in memory.facts():
        found.setdefault(f"{fact.slot}.{fact.field}", []).append(f"{fact.value} | {fact.confidence}")
    return found


def test_a_csv_is_a_dataset_whatever_its_size(tmp_path: Path, workspace: Path) -> None:
    """The limit on files holds for texts; of a table only the head is read."""
    rows = "".join(f"{n},person{n}@example.org,basic\n" for n in range(9_000))
    write(workspace, {"data/customers.csv": f"customer_id,email,plan\n{rows}"})
    memory = KnowledgeBase(tmp_path / "context" / "k.db", workspace, max_file_bytes=1_000)
    memory.sync()
    (dataset,) = facts(memory)["data.dataset"]
    assert dataset.startswith("/data/customers.csv: 3 columns: customer_id, email, plan; about ")
    assert dataset.endswith(' rows; delimiter "," | 0.95')
    assert facts(memory)["security.pii"] == ["column email in /data/customers.csv | 0.6"]
    assert b"person1@" not in stored_bytes(memory)
    assert memory.search(("plan",)) == ["/data/customers.csv"]
    memory.close()


def test_a_parquet_file_is_known_by_its_footer(memory: KnowledgeBase, workspace: Path) -> None:
    """Columns and the exact number of rows; a broken one is a file of bytes."""
    (workspace / "data").mkdir()
    rows = pa.table({"customer_id": [1, 2, 3], "spend": [1.5, 2.5, 3.5]})  # pyright: ignore[reportUnknownVariableType]
    pq.write_table(rows, workspace / "data" / "spend.parquet")  # pyright: ignore[reportUnknownArgumentType]
    write(workspace, {"data/broken.parquet": b"PAR1 but not really PAR1"})
    memory.sync()
    assert facts(memory)["data.dataset"] == ["/data/spend.parquet: 2 columns: customer_id, spend; 3 rows | 0.95"]
    assert memory.purposes()["/data/broken.parquet"] == "Parquet file"


@pytest.mark.parametrize(
    ("column", "sure"),
    [
        ("email", 0.6), ("E-Mail", 0.6), ("customerEmail", 0.6), ("phone_number", 0.6), ("first_name", 0.6),
        ("IBAN", 0.6),
        ("ip_address", 0.6), ("date_of_birth", 0.3), ("zipCode", 0.3), ("Gender", 0.3), ("Latitude", 0.3),
        ("email_count", 0), ("has_phone", 0), ("tenure", 0), ("customerID", 0), ("name_length", 0), ("emailed", 0),
        ("plan", 0), ("email_hash", 0),
        ("PhoneService", 0), ("PaperlessBilling", 0), ("latency", 0),
    ],
)  # fmt: skip
def test_names_of_columns_tell_what_is_personal(column: str, sure: float) -> None:
    """What points at one person is likely; what only helps to is a mention; counts and flags are neither."""
    assert personal(column) == sure
