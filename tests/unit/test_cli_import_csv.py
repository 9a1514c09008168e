"""Reading CSV for `meterfold import`: lines, broken rows, neighbours, exact cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterfold_deploy.exits import WrongInput
from meterfold_deploy.importing.csv_rows import CELL_LIMIT, CsvRows
from meterfold_deploy.importing.rows import BadRow, Row


def read(path: Path, text: str | bytes, delimiter: str = ",") -> tuple[tuple[str, ...], list[Row | BadRow]]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    rows = CsvRows(path, delimiter)
    found = list(rows.rows())
    rows.close()
    return rows.columns, found


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
