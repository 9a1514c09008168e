"""Making a plan: a mapping meets the columns of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing.amounts import amount_of, is_plain
from meterfold_cli.importing.metadata import Entry, json_value, metadata_step
from meterfold_cli.importing.metric_keys import metric_key_of
from meterfold_cli.importing.patterns import is_pattern, matches
from meterfold_cli.importing.plan import MeasurePlan, Plan, Reader, Row, Step, Tally, cell_text
from meterfold_cli.importing.subjects import Choice, subject_step
from meterfold_schemas.errors import InvalidUsage

__all__ = ["ReaderMaker", "make_plan"]

#: For a column, what turns its cells into values of a field; None: they are taken as they are.
ReaderMaker = Callable[[str], Reader | None]

_SHOWN: Final = 60


def make_plan(
    columns: Sequence[str], mapping: model.Mapping, readers: Mapping[str, ReaderMaker], name: str = "the mapping"
) -> Plan:
    """`readers` makes, for a field, the reader of one column (by its name). `name` is what messages call the mapping.

    Raises WrongInput for a column that the file does not have.
    """
    return _Planner(columns, mapping, readers, name).plan()


class _Planner:
    def __init__(
        self, columns: Sequence[str], mapping: model.Mapping, readers: Mapping[str, ReaderMaker], name: str
    ) -> None:
        self._columns = tuple(columns)
        self._index = {column: index for index, column in enumerate(columns)}
        self._mapping = mapping
        self._readers = readers
        self._name = name
        self._fixed: dict[str, Any] = {}
        self._fields: list[tuple[str, int, Reader | None]] = []
        self._steps: list[Step] = []
        self._sources: dict[str, tuple[str, ...]] = {}
        self._used: set[str] = set()
        self._tally = Tally()

    def plan(self) -> Plan:
        mapping = self._mapping
        id_from = self._id()
        self._time(mapping.timestamp)
        self._subjects(mapping.subjects)
        if mapping.metric is not None:
            self._metric(mapping.metric)
        if mapping.quantity is not None:
            self._quantity(mapping.quantity)
        measures = tuple(measure for each in mapping.measures if (measure := self._measure(each)) is not None)
        if mapping.measures and not measures:
            columns = ", ".join(repr(each.column) for each in mapping.measures)
            raise WrongInput(f"{self._name}: measures: the file has none of the columns {columns}")
        for name, value in mapping.fields.items():
            self._value(name, value)
        metadata = self._metadata()
        return Plan(
            columns=self._columns,
            fields=tuple(self._fields),
            metadata=metadata,
            fixed=self._fixed,
            id_from=id_from,
            strip=mapping.strip,
            where=self._where(),
            steps=tuple(self._steps),
            measures=measures,
            sources=self._sources,
            used=frozenset(self._used),
            tally=self._tally,
        )

    def _find(self, column: str, where: str, *, optional: bool = False) -> int | None:
        """The index of a column. Raises WrongInput unless it is there or optional."""
        index = self._index.get(column)
        if index is not None:
            self._used.add(column)
            return index
        if optional:
            return None
        near = get_close_matches(column, self._columns, n=1)
        shown = ", ".join(self._columns[:_SHOWN]) + (", ..." if len(self._columns) > _SHOWN else "")
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {shown}"
        raise WrongInput(f"{self._name}: {where}: the file has no column {column!r}; {hint}")

    def _need(self, column: str, where: str) -> int:
        index = self._find(column, where)
        assert index is not None
        return index

    def _field(self, name: str, column: str, where: str, *, read: Reader | None = None) -> None:
        index = self._need(column, where)
        self._fields.append((name, index, read if read is not None else self._reader(name, column)))
        self._sources[name] = (column,)

    def _reader(self, name: str, column: str) -> Reader | None:
        return self._readers[name](column) if name in self._readers else None

    def _id(self) -> tuple[int | None, ...]:
        if self._mapping.id is not None:
            self._field("id", self._mapping.id, "id")
            return ()
        return tuple(self._find(part.column, "id_from", optional=part.optional) for part in self._mapping.id_from)

    def _time(self, time: model.Timestamp) -> None:
        if time.value is not None:
            self._fixed["timestamp"] = time.value
        else:
            assert time.column is not None
            self._field("timestamp", time.column, "timestamp")

    def _subjects(self, subjects: Sequence[model.SubjectChoice]) -> None:
        if len(subjects) == 1 and not subjects[0].optional:
            self._subject(subjects[0])
            return
        choices: list[Choice] = []
        columns: list[str] = []
        for number, subject in enumerate(subjects, 1):
            where = f"subjects, entry {number}"
            if subject.column is not None:
                index = self._find(subject.column, where, optional=subject.optional)
                if index is None:
                    continue
                columns.append(subject.column)
                who: tuple[Reader | None, str | int] = self._reader("subject_id", subject.column), index
            else:
                who = None, subject.value or ""
            if subject.type_column is not None:
                kind: tuple[Reader | None, str | int] = (
                    self._reader("subject_type", subject.type_column),
                    self._need(subject.type_column, where),
                )
            else:
                kind = None, subject.type or ""
            choices.append((*kind, *who))
        if not choices:
            missing = ", ".join(repr(subject.column) for subject in subjects)
            raise WrongInput(f"{self._name}: subjects: the file has none of the columns {missing}")
        self._sources["subject_id"] = tuple(columns)
        self._steps.append(subject_step(choices))

    def _subject(self, subject: model.SubjectChoice) -> None:
        if subject.type_column is not None:
            self._field("subject_type", subject.type_column, "subjects")
        else:
            self._fixed["subject_type"] = subject.type
        if subject.column is not None:
            self._field("subject_id", subject.column, "subjects")
        else:
            self._fixed["subject_id"] = subject.value

    def _metric(self, metric: model.Metric) -> None:
        if metric.value is not None:
            self._fixed["metric_key"] = metric.value
            return
        indexes = [self._need(column, "metric") for column in metric.sources]
        self._sources["metric_key"] = metric.sources
        made = metric_key_of(metric)
        plain = metric.rule == "exact" and not metric.table and not metric.prefix
        if len(indexes) == 1 and plain:
            self._fields.append(("metric_key", indexes[0], self._reader("metric_key", metric.sources[0])))
            return

        def step(row: Row, event: dict[str, Any]) -> None:
            event["metric_key"] = made(*[cell if type(cell := row[i]) is str else cell_text(cell) for i in indexes])

        self._steps.append(step)

    def _quantity(self, quantity: model.Quantity) -> None:
        amount = amount_of(quantity, self._tally)
        if quantity.column is None:
            self._fixed["quantity"] = quantity.value
            if is_plain(quantity):
                return
        elif is_plain(quantity):
            self._field("quantity", quantity.column, "quantity")
            return
        index = None if quantity.column is None else self._need(quantity.column, "quantity")
        unit = None if quantity.unit_column is None else self._need(quantity.unit_column, "quantity.unit_column")
        if quantity.column is not None:
            self._sources["quantity"] = (quantity.column,)

        def step(row: Row, event: dict[str, Any]) -> None:
            cell = quantity.value if index is None else row[index]
            if cell is None or cell == "":
                raise InvalidUsage("quantity is empty")
            event["quantity"] = amount(cell, None if unit is None else row[unit])

        self._steps.append(step)

    def _measure(self, measure: model.Measure) -> MeasurePlan | None:
        where = f"measure {measure.metric}"
        unit = None if measure.unit_column is None else self._need(measure.unit_column, where)
        read = amount_of(measure, self._tally)
        if measure.column is None:
            value = measure.value
            return MeasurePlan(measure.metric, lambda row: read(value, None if unit is None else row[unit]))
        column = measure.column
        index = self._find(column, where, optional=measure.optional)
        if index is None:
            return None
        skip_zero = measure.skip_zero

        def amount(row: Row) -> Any:
            cell = row[index]
            if cell is None or cell == "":
                return None
            try:
                found = read(cell, None if unit is None else row[unit])
            except InvalidUsage as error:
                # Other measures have columns of their own, so the error names this one.
                raise InvalidUsage(f"column {column!r}: {error}") from None
            return None if skip_zero and not found else found

        return MeasurePlan(measure.metric, amount)

    def _value(self, name: str, value: model.Value) -> None:
        if value.column is None:
            self._fixed[name] = value.value
            return
        index = self._find(value.column, f"fields.{name}", optional=value.optional)
        if value.default is not None:
            self._fixed[name] = value.default  # a cell that is not empty replaces it
        if index is not None:
            self._field(name, value.column, f"fields.{name}")

    def _metadata(self) -> tuple[tuple[str, int], ...]:
        """The columns that are copied as they are, if there are no others; else a step takes all of them."""
        mapping = self._mapping
        objects = [
            (part.column, index)
            for part in mapping.metadata_from
            if (index := self._find(part.column, "metadata_from", optional=part.optional)) is not None
        ]
        entries: list[Entry] = []
        fixed: dict[str, Any] = {}
        for name, value in self._metadata_values().items():
            where = f"metadata.{name}"
            if value.column is None:
                fixed[name] = self._constant(where, value)
                continue
            index = self._find(value.column, where, optional=value.optional)
            if index is not None:
                entries.append((name, index, value.json_, value.default))
            elif value.default is not None:
                fixed[name] = value.default
        columns = [column for column, _ in objects] + [self._columns[index] for _, index, _, _ in entries]
        if len(objects) == 1 and not entries and not fixed and self._is_text(objects[0][0]):
            self._field("metadata", objects[0][0], "metadata_from")  # as it is, so that no digit of it changes
            return ()
        self._sources["metadata"] = tuple(columns)
        if objects or fixed or any(is_json or default is not None for _, _, is_json, default in entries):
            self._steps.append(metadata_step(objects, entries, fixed))
            return ()
        return tuple((name, index) for name, index, _, _ in entries)

    def _metadata_values(self) -> dict[str, model.MetadataValue]:
        """The entries by name, with those of each pattern in its place. An entry of its own wins over a pattern's."""
        named: dict[str, model.MetadataValue] = {}
        found: dict[str, model.MetadataValue] = {}
        for name, value in self._mapping.metadata.items():
            if value.column is None or not is_pattern(value.column, name):
                named[name] = value
                continue
            pairs = matches(self._columns, value.column, name)
            if not pairs and not value.optional:
                raise WrongInput(f"{self._name}: metadata.{name}: the file has no column that matches {value.column!r}")
            for column, entry in pairs:
                if entry in found:
                    raise WrongInput(
                        f"{self._name}: metadata: the columns {found[entry].column!r} and {column!r} both provide "
                        f"{entry!r}"
                    )
                found[entry] = value.model_copy(update={"column": column})
        return {**found, **named}

    def _is_text(self, column: str) -> bool:
        return "metadata" not in self._readers or self._readers["metadata"](column) is None

    def _constant(self, where: str, value: model.MetadataValue) -> Any:
        if not value.json_:
            return value.value
        try:
            return json_value(where, value.value)
        except InvalidUsage as error:
            raise WrongInput(f"{self._name}: {where}: {error}") from None

    def _where(self) -> tuple[tuple[int, frozenset[str], bool], ...]:
        """Conditions with = on one column are alternatives; all others must hold."""
        chosen: dict[tuple[int, bool], set[str]] = {}
        for text in self._mapping.where:
            part = model.condition(text)
            chosen.setdefault((self._need(part.column, f"where {text}"), part.negated), set()).add(part.value)
        return tuple((index, frozenset(values), negated) for (index, negated), values in chosen.items())
