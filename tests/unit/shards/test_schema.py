from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DatasetError
from farandole.shards import LABEL, Group, LabelColumn, Schema

Columns = dict[str, np.ndarray]


def test_arrays_become_a_batch_and_arrays_again(schema: Schema, rows: Callable[..., Columns]) -> None:
    columns = rows(5)
    views = schema.arrays(schema.record_batch(columns))
    assert list(views) == ["dense", "categorical", LABEL]
    for name, values in columns.items():
        assert views[name].dtype == values.dtype
        np.testing.assert_array_equal(views[name], values)


def test_a_slice_of_a_batch_gives_the_rows_of_the_slice(schema: Schema, rows: Callable[..., Columns]) -> None:
    views = schema.arrays(schema.record_batch(rows(9)).slice(4, 3))
    for name, values in rows(9).items():
        np.testing.assert_array_equal(views[name], values[4:7])


def test_columns_that_do_not_lie_in_one_piece_are_taken(schema: Schema, rows: Callable[..., Columns]) -> None:
    columns = {name: values[::-2] for name, values in rows(9).items()}
    views = schema.arrays(schema.record_batch(columns))
    for name, values in columns.items():
        np.testing.assert_array_equal(views[name], values)


def test_views_share_the_batchs_memory_and_cannot_be_written(schema: Schema, rows: Callable[..., Columns]) -> None:
    for view in schema.arrays(schema.record_batch(rows(2))).values():
        assert not view.flags.writeable
        assert not view.flags.owndata


def test_the_arrow_schema_has_one_list_of_fixed_size_for_each_group(schema: Schema) -> None:
    assert schema.arrow == pa.schema(
        [
            pa.field("dense", pa.list_(pa.field("item", pa.float32(), nullable=False), 3), nullable=False),
            pa.field("categorical", pa.list_(pa.field("item", pa.int32(), nullable=False), 1), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
        ]
    )


def test_a_row_has_four_bytes_for_each_value(schema: Schema) -> None:
    assert schema.row_bytes == 4 * (3 + 1 + 1)


@pytest.mark.parametrize("name", ["dense", LABEL])
def test_values_of_another_type_are_refused(schema: Schema, rows: Callable[..., Columns], name: str) -> None:
    columns = rows(2)
    columns[name] = columns[name].astype(np.float64)
    with pytest.raises(AssertionError, match="float64"):
        schema.record_batch(columns)


def test_values_of_another_width_are_refused(schema: Schema, rows: Callable[..., Columns]) -> None:
    columns = rows(2)
    columns["dense"] = columns["dense"][:, :2]
    with pytest.raises(AssertionError, match="dense"):
        schema.record_batch(columns)


def test_schemas_that_say_the_same_have_one_fingerprint_and_others_another(schema: Schema) -> None:
    same = Schema.model_validate_json(schema.model_dump_json())
    assert same == schema
    assert same.fingerprint == schema.fingerprint
    label = LabelColumn(kind="binary", column="y", classes=("yes", "no"))
    others = [
        Schema(groups=schema.groups, label=label),
        Schema(groups=schema.groups[::-1], label=schema.label),
        Schema(groups=schema.groups[:1], label=schema.label),
    ]
    assert len({schema.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    ("kind", "classes", "outputs", "dtype"),
    [
        ("binary", ("a", "b"), 1, np.int32),
        ("multiclass", ("a", "b", "c"), 3, np.int32),
        ("regression", (), 1, np.float32),
    ],
)
def test_the_kind_of_label_decides_outputs_and_type(
    kind: str, classes: tuple[str, ...], outputs: int, dtype: type
) -> None:
    label = LabelColumn.model_validate({"kind": kind, "column": "y", "classes": classes})
    assert (label.num_outputs, label.dtype) == (outputs, np.dtype(dtype))


def test_a_group_knows_its_size_and_type() -> None:
    group = Group(name="g", kind="ids", features=("a", "b"), cardinalities=(3, 4))
    assert (group.size, group.dtype) == (2, np.dtype(np.int32))


def test_a_group_is_found_by_its_name() -> None:
    dense = Group(name="dense", kind="numbers", features=("a",))
    schema = Schema(groups=(dense,))
    assert schema.group("dense") is dense
    with pytest.raises(DatasetError, match=r"the dataset has no group dens; did you mean dense\?"):
        schema.group("dens")
