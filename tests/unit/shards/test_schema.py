from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DatasetError
from farandole.shards import LABEL, Group, LabelColumn, Schema

Columns = dict[str, np.ndarray]


def test_arrays_survive_a_batch(schema: Schema, rows: Callable[..., Columns]) -> None:
    columns = rows(5)
    views = schema.arrays(schema.record_batch(columns))
    assert list(views) == ["dense", "categorical", LABEL]
    for name, values in columns.items():
        assert views[name].dtype == values.dtype
        np.testing.assert_array_equal(views[name], values)


def test_slice_of_a_batch_gives_its_own_rows(schema: Schema, rows: Callable[..., Columns]) -> None:
    views = schema.arrays(schema.record_batch(rows(9)).slice(4, 3))
    for name, values in rows(9).items():
        np.testing.assert_array_equal(views[name], values[4:7])


def test_non_contiguous_columns_are_accepted(schema: Schema, rows: Callable[..., Columns]) -> None:
    columns = {name: values[::-2] for name, values in rows(9).items()}
    views = schema.arrays(schema.record_batch(columns))
    for name, values in columns.items():
        np.testing.assert_array_equal(views[name], values)


def test_views_are_read_only_and_share_the_batchs_memory(schema: Schema, rows: Callable[..., Columns]) -> None:
    for view in schema.arrays(schema.record_batch(rows(2))).values():
        assert not view.flags.writeable
        assert not view.flags.owndata


def test_arrow_schema_has_one_fixed_size_list_for_each_group(schema: Schema) -> None:
    assert schema.arrow == pa.schema(
        [
            pa.field("dense", pa.list_(pa.field("item", pa.float32(), nullable=False), 3), nullable=False),
            pa.field("categorical", pa.list_(pa.field("item", pa.int32(), nullable=False), 1), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
        ]
    )


def test_row_has_four_bytes_for_each_value(schema: Schema) -> None:
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


def test_fingerprint_depends_on_the_content_of_the_schema(schema: Schema) -> None:
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
def test_kind_of_label_decides_outputs_and_type(kind: str, classes: tuple[str, ...], outputs: int, dtype: type) -> None:
    label = LabelColumn.model_validate({"kind": kind, "column": "y", "classes": classes})
    assert (label.num_outputs, label.dtype) == (outputs, np.dtype(dtype))


def test_group_has_a_size_and_a_type() -> None:
    group = Group(name="g", kind="ids", features=("a", "b"), cardinalities=(3, 4))
    assert (group.size, group.dtype) == (2, np.dtype(np.int32))


def test_group_is_found_by_its_name() -> None:
    dense = Group(name="dense", kind="numbers", features=("a",))
    schema = Schema(groups=(dense,))
    assert schema.group("dense") is dense
    with pytest.raises(DatasetError, match=r"the dataset has no group dens; did you mean dense\?"):
        schema.group("dens")
