"""Reading CSV for `meterfold import`: lines, broken rows, neighbours, exact cells."""

from __future__ import annotations

import csv
import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.csv_rows import CELL_LIMIT, CsvRows
from meterfold_cli.importing.rows import BadRow, Row


def read(path: Path, text: str | bytes, delimiter: str | None = ",") -> tuple[tuple[str, ...], list[Row | BadRow]]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with closing(CsvRows(path, delimiter)) as rows:
        return rows.columns, list(rows.rows())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.csv"


def test_cells_stay_the_text_that_stands_there(path: Path) -> None:
    columns, found = read(path, "id,quantity\na,0.100000000\nb,12345678901234567890.123456789\n")
    assert columns == ("id", "quantity")
    assert found == [Row(2, ["a", "0.100000000"]), Row(3, ["b", "12345678901234567890.123456789"])]


def test_lines_are_counted_through_quoted_line_ends_and_blank_lines(path: Path) -> None:
    _, found = read(path, 'id,note\r\na,"two\r\nlines"\r\n\r\nb,x\r\n')
    assert found == [Row(2, ["a", "two\r\nlines"]), Row(5, ["b", "x"])]


def test_a_byte_order_mark_is_no_part_of_the_first_name(path: Path) -> None:
    columns, _ = read(path, b"\xef\xbb\xbfid,x\n")
    assert columns == ("id", "x")


def test_a_row_of_another_width_is_bad_and_its_neighbours_are_not(path: Path) -> None:
    _, found = read(path, "a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert [type(row) for row in found] == [Row, BadRow, BadRow, Row]
    assert [row.line for row in found] == [2, 3, 4, 5]
    assert isinstance(found[2], BadRow)
    assert found[2].reason == "3 cells where the header has 2"


def test_an_open_quote_takes_no_neighbour_along(path: Path) -> None:
    good = "".join(f"{number},x\n" for number in range(3, 50))
    _, found = read(path, f'a,b\n1,2\n2,"open\n{good}')
    assert [row.line for row in found if isinstance(row, BadRow)] == [3]
    assert [row.values for row in found if isinstance(row, Row)] == [
        ["1", "2"],
        *[[str(number), "x"] for number in range(3, 50)],
    ]


def test_an_open_quote_that_another_quote_closes_takes_no_neighbour_along(path: Path) -> None:
    _, found = read(path, 'a,b\n1,"open\n2,x\n3,"shut"\n4,y\n')
    assert [(row.line, isinstance(row, Row)) for row in found] == [(2, False), (3, True), (4, True), (5, True)]


def test_an_endless_cell_is_one_bad_row(path: Path) -> None:
    _, found = read(path, f"a\n{'x' * (CELL_LIMIT + 1)}\ny\n")
    assert [(row.line, isinstance(row, Row)) for row in found] == [(2, False), (3, True)]


def test_bytes_that_are_no_utf8_come_as_lone_surrogates(path: Path) -> None:
    _, found = read(path, b"a\n\xff\nb\n")
    assert [row.values for row in found] == [["\udcff"], ["b"]]


def test_another_delimiter(path: Path) -> None:
    assert read(path, "a;b\n1,5;2\n", ";")[1] == [Row(2, ["1,5", "2"])]


def test_an_empty_or_missing_file_says_so(path: Path) -> None:
    path.touch()
    with pytest.raises(WrongInput, match="is empty"):
        CsvRows(path)
    with pytest.raises(WrongInput, match="cannot be read"):
        CsvRows(path.with_name("none.csv"))


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("id;user;amount", "--delimiter ';'"),
        ("id\tuser\tamount", "--delimiter tab"),
        ("id|user|amount", "--delimiter '|'"),
        ("id;name,title;amount;at", "--delimiter ';'"),
    ],
)
def test_a_file_with_another_delimiter_is_named_with_the_option(path: Path, header: str, hint: str) -> None:
    path.write_text(header + "\n1;2;3\n", encoding="utf-8")
    with pytest.raises(WrongInput, match=re.escape(hint)):
        CsvRows(path)


def test_a_delimiter_that_is_given_is_believed(path: Path) -> None:
    columns, _ = read(path, "id;user;amount\n", ",")
    assert columns == ("id;user;amount",)


def test_tsv_is_separated_by_tabs_and_a_comma_file_of_that_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.tsv"
    assert read(path, "id\tuser\n1\t2,5\n", None) == (("id", "user"), [Row(2, ["1", "2,5"])])
    path.write_text("id,user\n1,2\n", encoding="utf-8")
    with pytest.raises(WrongInput, match="--delimiter ','"):
        CsvRows(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"])
def test_encodings_are_recognised_by_their_byte_order_mark(path: Path, encoding: str) -> None:
    text = "id,user\n1,Grüße €\U0001f600\n"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    columns, found = read(path, (mark + text).encode(encoding))
    assert columns == ("id", "user")
    assert found == [Row(2, ["1", "Grüße €\U0001f600"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,user\n1,2\n".encode("utf-16-le"), "NUL bytes in its first line.*iconv"),
        (b"PK\x03\x04rest", "an Excel workbook or a ZIP archive; export it as CSV"),
        (b"\x1f\x8b\x08rest", "is damaged and cannot be decompressed"),
        (b"PAR1rest", "name it .parquet"),
        ("id,größe\n".encode("latin-1"), "header is not valid UTF-8.*iconv"),
        ("id,user\n".encode("utf-16") + b"\x00", "not valid UTF-16"),
    ],
)
def test_what_is_not_csv_is_named_with_what_to_do(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        read(path, content)


# No NUL (a file that begins with one is another kind of file) and no surrogates (a file has none).
_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(
    rows=st.lists(st.lists(_CELLS, min_size=2, max_size=2), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_csv_writer_wrote_is_read_to_the_character(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, encoding: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "events.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["a", "b"], *rows])
    reader = CsvRows(path, delimiter)
    assert [list(row.values) for row in reader.rows()] == rows
    reader.close()
