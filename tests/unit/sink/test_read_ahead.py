"""read_ahead: the items in order, one ahead of the caller, with the errors and the end of its source."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from meterfold_sink.read_ahead import read_ahead


class Source:
    """Gives 0, 1, ... `size` - 1 and then raises `error`, if there is one."""

    def __init__(self, size: int, error: Exception | None = None) -> None:
        self._size, self._error = size, error
        self.made = threading.Condition()
        self.taken = 0
        self.closed = False

    def pieces(self) -> Generator[int, None, None]:
        try:
            for number in range(self._size):
                with self.made:
                    self.taken += 1
                    self.made.notify_all()
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    def wait_for(self, count: int) -> bool:
        with self.made:
            return self.made.wait_for(lambda: self.taken >= count, 10)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_gives_every_item_in_order_and_closes_the_source(size: int) -> None:
    source = Source(size)
    assert list(read_ahead(source.pieces())) == list(range(size))
    assert source.closed


def test_makes_the_next_item_while_the_caller_has_the_one_before() -> None:
    source = Source(5)
    pieces = read_ahead(source.pieces())
    assert source.taken == 0
    assert next(pieces) == 0
    assert source.wait_for(2)  # nobody has asked for the second one
    assert next(pieces) == 1
    assert source.wait_for(3)
    pieces.close()
    assert source.taken == 3
    assert source.closed


def test_an_error_comes_after_the_items_before_it() -> None:
    source = Source(2, ValueError("broken off"))
    pieces = read_ahead(source.pieces())
    assert [next(pieces), next(pieces)] == [0, 1]
    with pytest.raises(ValueError, match="broken off"):
        next(pieces)
    assert source.closed


def test_closes_the_source_when_the_caller_stops_before_the_end() -> None:
    source = Source(5)
    pieces = read_ahead(source.pieces())
    next(pieces)
    pieces.close()
    assert source.closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("meterfold-read")]
