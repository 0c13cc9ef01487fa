"""Numbers on disk: exact values in JSON, CSV and Parquet."""

import decimal
import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_directories import names

from rnnjax.runs import Run, tables


@given(st.floats(width=32))
def test_a_float32_is_the_shortest_decimal_that_reads_back(value):
    number = np.float32(value)
    text = json.dumps(tables.plain_value(number))
    back = np.float32(json.loads(text))
    assert back.tobytes() == number.tobytes() or (math.isnan(number) and math.isnan(back))
    if math.isfinite(number):  # one digit fewer is another number
        digits = len(decimal.Decimal(text).normalize().as_tuple().digits)
        assert digits == 1 or np.float32(f"{number:.{digits - 2}e}") != number


def test_a_parquet_file_reads_back(run):
    from pyarrow import parquet

    columns = {
        "cell": np.array(["lstm", "grü"]),
        "loss": np.array([0.1, np.nan]),
        "step": [3, 2**40],
        "seeds": [[0.5, 1.5], []],
    }
    run.write_parquet("trials", columns)
    found = parquet.read_table(run.path / "trials.parquet").to_pydict()
    np.testing.assert_equal(found, {key: [*map(plain, column)] for key, column in columns.items()})
    assert names(run.path) == ["config.json", "trials.parquet"]
    with pytest.raises(ValueError, match="length"):
        run.write_parquet("trials", {"a": [1], "b": [1, 2]})


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


def test_json_takes_numbers_and_arrays_of_numpy_and_jax(run):
    value: dict[str, Any] = {
        "f32": np.float32(0.1),
        "f64": np.float64(0.1) + 0.2,
        "int": np.int64(2**62),
        "bool": np.bool_(True),
        "jax": jnp.arange(3.0) / 10,
        "bf16": jnp.bfloat16(0.5),
        "nested": [(Path("a"), np.ones((2, 1), int))],
        "text": np.array(["a", "b"]),
        "not finite": np.array([np.nan, np.inf, -np.inf], np.float32),
        "float": math.inf,
    }
    run.write_json("summary.json", value)
    back = run.read_json("summary.json")
    assert math.isnan(back["not finite"].pop(0))
    assert back == {
        "f32": 0.1,
        "f64": 0.1 + 0.2,
        "int": 2**62,
        "bool": True,
        "jax": [0.0, 0.1, 0.2],
        "bf16": 0.5,
        "nested": [["a", [[1], [1]]]],
        "text": ["a", "b"],
        "not finite": [math.inf, -math.inf],
        "float": math.inf,
    }
    assert "NaN" in (run.path / "summary.json").read_text()
    for wrong in (object(), {1}, 1j):
        with pytest.raises(TypeError, match="cannot write"):
            run.write_json("wrong.json", {"a": [wrong]})
    assert not (run.path / "wrong.json").exists()


def test_tables_read_back(run):
    third = np.array([1 / 3, -np.inf, np.nan])
    parts = [
        {"cell": "lstm", "path": ["c", 'h, "x"', "ü\n"], "lag": np.arange(3), "value": third},
        {"lag": 7, "value": np.float32(0.1), "cell": "gru", "path": "c"},
        {"cell": [], "path": [], "lag": [], "value": 1.0},
    ]
    run.write_table("profiles", parts)
    table = run.read_table("profiles")
    assert list(table) == ["cell", "path", "lag", "value"]
    assert table["cell"].tolist() == ["lstm"] * 3 + ["gru"]
    assert table["path"].tolist() == ["c", 'h, "x"', "ü\n", "c"]
    assert table["lag"].tolist() == [0, 1, 2, 7] and table["lag"].dtype == np.float64
    np.testing.assert_array_equal(table["value"], [*third, 0.1])
    lines = (run.path / "profiles.csv").read_bytes().split(b"\n")
    assert lines[:2] == [b"cell,path,lag,value", b"lstm,c,0,0.3333333333333333"]
    assert lines[-2:] == [b"gru,c,7,0.1", b""]


@given(st.lists(st.floats(), min_size=1))
def test_tables_keep_every_bit_of_a_float64(tmp_path_factory, values):
    run = Run(tmp_path_factory.getbasetemp())
    run.write_table("bits", [{"x": np.array(values)}])
    np.testing.assert_array_equal(run.read_table("bits")["x"], values)


def test_several_tables_are_written_by_name(run):
    run.write_tables({"a": [{"x": [1.0]}, {"x": [2.0]}], "b": [{"y": [3.0]}]})
    assert run.read_table("a")["x"].tolist() == [1, 2] and run.read_table("b")["y"].tolist() == [3]


def test_a_table_without_rows(run):
    run.write_table("empty", [{"a": [], "b": []}])
    table = run.read_table("empty")
    assert list(table) == ["a", "b"] and all(column.shape == (0,) for column in table.values())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "table t needs columns"),
        ([{}], "table t needs columns"),
        ([{"a": 1}, {"a": 1, "b": 2}], r"columns \['a'\], got \['a', 'b'\]"),
        ([{"a": 1, "b": 2}, {"b": 2}], r"columns \['a', 'b'\], got \['b'\]"),
        ([{"a": [1, 2], "b": [1, 2, 3]}], "shape mismatch"),
    ],
)
def test_parts_that_do_not_form_a_table(run, parts, message):
    with pytest.raises(ValueError, match=message):
        run.write_table("t", parts)
    assert names(run.path) == ["config.json"]
