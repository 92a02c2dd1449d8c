"""Reading files as they come: whatever the signs and the encoding, the same rows of text; else the line to correct."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pytest

from mlsystem.data.reader import Rows, read_rows
from mlsystem.data.scan import Scan, scan_column
from mlsystem.errors import DataError
from mlsystem.spec import ReaderOptions

PLAIN = {"name": ["Zoë", "x, y", ""], "n": ["1", "2", "3"]}


def read(folder: Path, content: bytes, options: ReaderOptions | None = None, name: str = "rows.csv") -> Rows:
    (folder / name).write_bytes(content)
    return read_rows([name], folder, options or ReaderOptions())


def texts(rows: Rows) -> dict[str, list[str]]:
    with rows:
        return {name: rows.column(name).tolist() for name in rows.names}


def refusal(folder: Path, content: bytes, name: str = "rows.csv") -> DataError:
    with pytest.raises(DataError) as refused:
        read(folder, content, name=name)
    return refused.value


def scanned(folder: Path, values: list[str], options: ReaderOptions | None = None, name: str = "a") -> Scan:
    lines = "".join(f'"{value}";{i}\n' for i, value in enumerate(values))
    with read(folder, f"{name};i\n{lines}".encode(), options) as rows:
        return scan_column(rows, name, options or ReaderOptions())


@pytest.mark.parametrize(
    "content",
    [
        'name,n\nZoë,1\n"x, y",2\n,3\n'.encode(),
        '\ufeffname,n\r\nZoë,1\r\n"x, y",2\r\n,3\r\n'.encode(),
        "name;n\nZoë;1\nx, y;2\n;3\n".encode(),
        "name\tn\nZoë\t1\nx, y\t2\n\t3\n".encode(),
        "name|n\nZoë|1\nx, y|2\n|3\n".encode(),
        'name,n\r\nZoë,1\n"x, y",2\r\n,3\n'.encode(),
        'name,n\rZoë,1\r"x, y",2\r,3\r'.encode(),
        "name,n\nZoë,1\n'x, y',2\n,3\n".encode(),
        'name,n\nZoë,1\n"x, y",2\n,3\n'.encode("cp1252"),
        'name,n\nZoë,1\n"x, y",2\n,3\n'.encode("utf-16"),
        '# made by hand\nname,n\n Zoë , 1\n"x, y",2\n"",3'.encode(),
        'name,n\nZoë,1\n\n"x, y",2\n,3\n\n'.encode(),
    ],
    ids=["plain", "bom-crlf", "semicolon", "tab", "pipe", "mixed-ends", "cr", "single-quotes", "cp1252", "utf-16",
         "comment-blanks", "empty-lines"],
)  # fmt: skip
def test_the_same_rows_come_out_however_they_are_written(tmp_path: Path, content: bytes) -> None:
    assert texts(read(tmp_path, content)) == PLAIN


def test_a_field_may_go_over_several_lines(tmp_path: Path) -> None:
    assert texts(read(tmp_path, b'a,b\n"one\ntwo",1\n"say ""hi""",2\n')) == {
        "a": ["one\ntwo", 'say "hi"'],
        "b": ["1", "2"],
    }


def test_a_gzipped_file_is_read_like_the_file_itself(tmp_path: Path) -> None:
    content = gzip.compress('name,n\nZoë,1\n"x, y",2\n,3\n'.encode())
    assert texts(read(tmp_path, content, name="rows.csv.gz")) == PLAIN


def test_an_encoding_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    with read(tmp_path, "a,b\nZoë,1\nMaß,2\n".encode("cp1252")) as rows:
        assert rows.notes == (
            "rows.csv is not UTF-8; it was read as cp1252, set data.reader.encoding if that is wrong",
        )


def test_the_spec_says_how_to_read_where_the_file_does_not_show_it(tmp_path: Path) -> None:
    options = ReaderOptions(delimiter=":", quote="~", header=False, encoding="latin-1")
    assert texts(read(tmp_path, "1:~a:b~\n2:\xe9\n".encode("latin-1"), options)) == {
        "column_1": ["1", "2"],
        "column_2": ["a:b", "é"],
    }


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", ("column_1", "column_2", "column_3")),
        (b"country,2001,2002\nNL,1,2\nBE,3,4\n", ("country", "2001", "2002")),
        (b"name,city\nann,rome\nbob,oslo\n", ("name", "city")),
        (b",a\n0,x\n1,y\n", ("column_1", "a")),
    ],
)
def test_a_line_of_names_is_told_from_a_line_of_values(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    with read(tmp_path, content) as rows:
        assert rows.names == names


def test_parquet_is_read_as_text_too(tmp_path: Path) -> None:
    sql = "SELECT * FROM (VALUES (1, 1.5, true, DATE '2024-01-31'), (2, NULL, false, NULL)) AS t(i, x, b, d)"
    duckdb.execute(f"COPY ({sql}) TO '{tmp_path / 'rows.parquet'}' (FORMAT parquet)")
    with read_rows(["rows.parquet"], tmp_path, ReaderOptions()) as rows:
        assert texts(rows) == {"i": ["1", "2"], "x": ["1.5", ""], "b": ["true", "false"], "d": ["2024-01-31", ""]}


def test_several_files_with_the_same_columns_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("x;y\n1;2\n")
    (tmp_path / "a2.csv").write_text("x,y\n3,4\n")
    assert texts(read_rows(["a*.csv"], tmp_path, ReaderOptions())) == {"x": ["1", "3"], "y": ["2", "4"]}


def test_files_with_other_columns_are_no_one_source(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a2.csv").write_text("x,z\n3,4\n")
    with pytest.raises(DataError, match=r"a2\.csv has no column 'y'; a1\.csv has no column 'z'"):
        read_rows(["a*.csv"], tmp_path, ReaderOptions())


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "empty_file", "give a file with a line of names"),
        (b" \r\n\n", "empty_file", "give a file with a line of names"),
        (b"a,b\n", "header_only", "give a file with data below the names"),
        (b"a,b\n1,2\n", "one_row", "give a file with more rows"),
        (b"PK\x03\x04" + b"\x00" * 50, "binary_file", "export it as CSV"),
        (b"a,b\n1,\x00\x01\n", "binary_file", "export it as CSV"),
        (b"a,b,a\n1,2,3\n4,5,6\n", "duplicate_columns", "rename them"),
        (b"Dear all,\nplease find below\nno table\n", "not_tabular", "data.reader.delimiter"),
        (b"PAR1 and then nothing", "binary_file", "write it again"),
        ("a,b\n1,2\n3,4\n".encode("utf-16")[:-1], "bad_encoding", "save it as UTF-8"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_do(tmp_path: Path, content: bytes, code: str, says: str) -> None:
    error = refusal(tmp_path, content)
    assert (error.code, error.exit_code, says in error.message) == (code, 4, True)


@pytest.mark.parametrize("encoding", ["klingon", "hex", "utf-8"])
def test_an_encoding_that_is_none_or_does_not_fit_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"data\.reader\.encoding"):
        read(tmp_path, b"a,b\n\xe9,2\n3,4\n", ReaderOptions(encoding=encoding))


def test_a_file_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "churn.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as refused:
        read_rows(["chrun.csv"], tmp_path, ReaderOptions())
    assert (refused.value.code, refused.value.details) == (
        "no_such_file",
        ({"pattern": "chrun.csv", "nearest": ["churn.csv"]},),
    )


def test_a_directory_is_refused_as_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory; name a file in it"):
        read_rows(["."], tmp_path, ReaderOptions())


def test_ragged_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a,b,c\n1,2,3\n4,5\n6,7,8\n9,1,2,3\n")
    assert (error.code, error.details) == (
        "ragged_rows",
        (
            {"file": "rows.csv", "line": 3, "reason": "2 fields where the names are 3", "got": "4,5"},
            {"file": "rows.csv", "line": 5, "reason": "4 fields where the names are 3", "got": "9,1,2,3"},
        ),
    )


def test_a_quote_that_is_not_closed_is_named_by_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, b'a,b\n1,2\n"x "y" z",2\n')
    assert (error.code, error.details[0]["line"]) == ("ragged_rows", 3)


def test_equal_names_are_told_with_their_places(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a,b,a\n1,2,3\n4,5,6\n")
    assert error.details == ({"column": "a", "positions": [1, 3]},)


def test_names_that_differ_in_case_alone_are_different_columns(tmp_path: Path) -> None:
    assert texts(read(tmp_path, b"a,A\n1,2\n3,4\n")) == {"a": ["1", "3"], "A": ["2", "4"]}


def test_rows_can_be_left_out(tmp_path: Path) -> None:
    with read(tmp_path, b"a,b\n1,x\n2,y\n3,z\n") as rows:
        rows.keep(np.array([True, False, True]))
        assert (rows.count, texts(rows)) == (2, {"a": ["1", "3"], "b": ["x", "z"]})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "-3"], "integer"),
        (["1", "2.5", ""], "number"),
        (["1,5", "2,25", "3"], "number"),
        (["$1,200.50", "$3", "?"], "number"),
        (["Yes", "No", "Yes"], "category"),
        (["true", "false", "true"], "category"),
        (["00501", "10001", "90210"], "category"),
        (["2024-01-31", "2024-02-01", "-"], "date"),
        (["2024-01-31 10:00", "2024-02-01T11:00:30Z"], "datetime"),
        (["31.01.2024", "01.02.2024"], "date"),
        (["Jan 31, 2024", "Feb 1, 2024"], "date"),
        (["1/31/2024 5:04 PM", "2/1/2024 11:00 AM"], "datetime"),
        (["2024-02-30", "2024-02-31"], "category"),
        (["1.2.3", "1.2.4"], "category"),
        (["the first thing that I saw", "another long sentence of it"], "text"),
        (["NA", "", "null"], "category"),
    ],
)
def test_types_follow_from_all_values(tmp_path: Path, values: list[str], kind: str) -> None:
    """Yes and No stay categories, codes with leading zeros are no numbers, 30 February is no date."""
    assert scanned(tmp_path, values).type == kind


def test_types_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    """A late text in a column of numbers decides as an early one does."""
    values = [str(i) for i in range(50)]
    late, early = scanned(tmp_path, [*values, "unknown", "no"]), scanned(tmp_path, ["no", "unknown", *values])
    assert (late, late.type) == (early, "category")


def test_a_few_texts_among_many_numbers_are_strays(tmp_path: Path) -> None:
    found = scanned(tmp_path, [*map(str, range(300)), "n/k", ""])
    assert (found.type, found.strays, round(found.missing * 302)) == ("integer", 1, 2)


@pytest.mark.parametrize(
    ("values", "form", "ambiguous"),
    [
        (["03/04/2024", "05/06/2024"], "%d/%m/%Y", True),
        (["03/04/2024", "25/06/2024"], "%d/%m/%Y", False),
        (["03/04/2024", "05/26/2024"], "%m/%d/%Y", False),
        (["03.04.2024", "05.06.2024"], "%d.%m.%Y", False),
        (["2024/3/4", "2024/5/6"], "%Y/%m/%d", False),
    ],
)
def test_dates_that_can_be_read_in_two_ways_are_known_as_such(
    tmp_path: Path, values: list[str], form: str, ambiguous: bool
) -> None:
    found = scanned(tmp_path, values)
    assert (found.format, found.ambiguous) == (form, ambiguous)


def test_the_spec_says_which_comes_first_in_a_date(tmp_path: Path) -> None:
    found = scanned(tmp_path, ["03/04/2024", "05/06/2024"], ReaderOptions(dayfirst=False))
    assert (found.format, found.ambiguous) == ("%m/%d/%Y", False)


def test_eight_digits_are_a_date_where_the_name_says_so(tmp_path: Path) -> None:
    values = ["20240131", "20240201"]
    assert (scanned(tmp_path, values, name="order_date").type, scanned(tmp_path, values).type) == ("date", "integer")


def test_further_texts_that_mean_missing_come_from_the_spec(tmp_path: Path) -> None:
    found = scanned(tmp_path, ["1", "2", "n.v.t."], ReaderOptions(null=("n.v.t.",)))
    assert (found.type, found.texts.present) == ("integer", 2)


@pytest.mark.parametrize("columns", [2, 150])
def test_blanks_around_values_go_whether_columns_are_few_or_many(tmp_path: Path, columns: int) -> None:
    """Many columns are trimmed without a look first; the values are the same."""
    rows = [[f"c{i}" for i in range(columns)], [" a\t"] * columns, ["b"] * columns]
    found = texts(read(tmp_path, "\n".join(",".join(row) for row in rows).encode()))
    assert found == {f"c{i}": ["a", "b"] for i in range(columns)}
