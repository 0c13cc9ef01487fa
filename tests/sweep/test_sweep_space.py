"""The values of --search and --set, and what is refused before anything starts."""

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import script, space

QUICK = Path(__file__).parents[1] / "quick_script.py"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NUMBERS = st.floats(1e-6, 1e6)


@given(NUMBERS, NUMBERS, st.integers(2, 9), st.booleans())
def test_a_range_holds_points_evenly_between_its_ends(a, b, count, log):
    low, high = sorted((a, b))
    kind = "log" if log else "lin"
    part = space.parse("x", f"{kind}:{low!r}:{high!r}:{count}", ["float"], grid=True)
    points = part.grid()
    assert (points[0], points[-1], len(points)) == (low, high, count)
    assert all(map(math.isclose, points, sorted(points)))
    turned = [math.log(p) if log else p for p in points]
    steps = [after - before for before, after in itertools.pairwise(turned)]
    size = max(map(abs, turned)) + 1
    assert all(math.isclose(step, steps[0], rel_tol=1e-6, abs_tol=1e-9 * size) for step in steps)


@given(st.integers(-50, 50), st.integers(0, 60))
def test_a_range_of_whole_numbers_without_a_count_has_all(low, more):
    part = space.parse("n", f"int:{low}:{low + more}", ["int"], grid=True)
    assert part.grid() == [*range(low, low + more + 1)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True))
def test_numbers_read_back_exactly(values):
    text = ",".join(map(space.text, values))
    part = space.parse("x", text, ["float"], grid=False)
    assert part.grid() == values
    words = [word for value in values for word in script.arguments({"x": ["float"]}, {"x": value})]
    assert [float(word) for word in words[1::2]] == values


@pytest.mark.parametrize(
    ("text", "types", "want"),
    [
        ("0.5,1,5", ["float"], [0.5, 1.0, 5.0]),
        ("1,2.5", ["float", "int"], [1, 2.5]),
        ("none,50", ["None", "int"], [None, 50]),
        ("none,true,1", ["word"], ["none", "true", "1"]),
        ("true,false", ["bool"], [True, False]),
        ("lstm,gru,lstm+gru", ["tuple", "word"], ["lstm", "gru", "lstm+gru"]),
        ("1+2,3", ["int", "tuple"], ["1+2", "3"]),
        ("log:16:256:5", ["int"], [16, 32, 64, 128, 256]),
        ("log:1:3:9", ["int"], [1, 2, 3]),  # each once
        ("lin:0:1:3", ["float"], [0.0, 0.5, 1.0]),
        ("int:1:3", ["float"], [1, 2, 3]),
    ],
)
def test_values_have_the_types_of_the_field(text, types, want):
    found = space.parse("f", text, types, grid=True).grid()
    assert found == want and [*map(type, found)] == [*map(type, want)]


def test_plus_joins_elements():
    assert space.elements("lstm+gru") == ["lstm", "gru"]
    assert space.elements("1e+5+2E+3+1.5e-3") == ["1e+5", "2E+3", "1.5e-3"]
    types = {"cells": ["tuple", "word"], "twice": ["bool"], "length": ["None", "int"]}
    values = {"cells": "lstm+gru", "twice": False, "length": None}
    want = ["--cells", "lstm", "gru", "--no-twice", "--length", "None"]
    assert script.arguments(types, values) == want
    assert script.arguments(types, {"twice": "true"}) == ["--twice"]


WRONG = {
    "log:1e-1:1e-4": "must go from a low number to a high one",
    "log:0:1": "must be above 0",
    "log:1": "must be log:LOW:HIGH",
    "lin:a:b": "must be lin:LOW:HIGH",
    "lin:1:2:3:4": "must be lin:LOW:HIGH",
    "lin:nan:1": "must go from a low number",
    "int:0.5:2": "must go between whole numbers",
    "lin:0:1:1": "at least 2 points",
    "1,,2": "has an empty value",
    "1,2,1.0": "repeats a value",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_searches_are_refused(text):
    with pytest.raises(ArgumentError, match=f"^--search x .*{WRONG[text]}"):
        space.parse("x", text, ["float"], grid=True)


def test_points_belong_to_grids_and_ranges_to_numbers():
    with pytest.raises(
        ArgumentError, match="needs a number of points in a grid, such as log:1:2:5"
    ):
        space.parse("x", "log:1:2", ["float"], grid=True)
    with pytest.raises(ArgumentError, match="has 7 points, which only --sampler grid takes"):
        space.parse("x", "log:1:2:7", ["float"], grid=False)
    with pytest.raises(ArgumentError, match="takes no numbers"):
        space.parse("cells", "int:1:2", ["tuple", "word"], grid=True)


def test_assignments_are_names_and_values():
    found = space.assignments(["a=1", "--batch-size=2", "c=x=y"], "--set")
    assert found == {"a": "1", "batch_size": "2", "c": "x=y"}
    for items, words in ((["a"], "takes FIELD=VALUE, got 'a'"), (["a=1", "a=2"], "names a twice")):
        with pytest.raises(ArgumentError, match=words):
            space.assignments(items, "--set")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_grid_has_every_combination_once(counts):
    parts: space.Space = {f"f{i}": space.Choice(tuple(range(n))) for i, n in enumerate(counts)}
    points = [tuple(point.values()) for point in space.points(parts)]
    assert len(set(points)) == len(points) == math.prod(counts) and points == sorted(points)


def test_corners_hold_every_choice_and_both_limits():
    parts = {"x": space.Range(0, 1, False, False), "c": space.Choice(("a", "b", "c"))}
    corners = space.corners(parts)
    assert {p["c"] for p in corners} == {*"abc"} and {p["x"] for p in corners} == {0, 1}


def test_differences_name_old_and_new_values():
    old = {"search": {"x": "1,2", "y": "3"}, "seed": 0, "set": {}}
    new = {"search": {"x": "1", "z": "3"}, "seed": 0, "set": {"a": "1"}}
    assert space.differences(old, new) == [
        *("search x was 1,2, now 1", "search y was 3, now not given"),
        *("search z was not given, now 3", "set a was not given, now 1"),
    ]
    turned = {**old, "search": {"y": "3", "x": "1,2"}}
    assert space.differences(old, turned) == ["the order of search was x y, now y x"]
    assert space.differences(old, dict(old)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n": -1}, "--n must be at least 0, got -1"),
        ({"n": "many"}, "--n must be a whole number, got 'many'"),
        ({"cells": "lstm+mgu"}, "--cells must be one of 'elman', 'lstm', 'gru', got 'mgu'"),
        ({"twice": "3"}, "unexpected '3'"),
    ],
)
def test_values_are_refused_as_the_script_refuses_them(values, words):
    loaded = script.load(QUICK)
    with pytest.raises(ArgumentError) as error:
        loaded.check_values({"x": 1.0, **values})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_fields_that_do_not_exist_or_change_no_number():
    loaded = script.load(QUICK)
    for name, words in (
        ("step", "quick_script.py has no such field; perhaps you meant steps"),
        ("learning", "no such field; there are x, n, cells, name, twice"),
        ("mesh", "this option changes no number; give it with --set"),
        ("checkpoint_every", "this option changes no number; give it with --set"),
        ("out", "a sweep sets --out of its trials itself"),
    ):
        with pytest.raises(ArgumentError, match=f"^--search {name}: .*{words}"):
            loaded.check_field(name, "--search")
    loaded.check_field("mesh", "--set")
    with pytest.raises(ArgumentError, match="^--set out: a sweep sets --out"):
        loaded.check_field("out", "--set")


def test_no_option_of_runs_can_be_searched():
    """All options of the one list, in every experiment."""
    for path in sorted(EXPERIMENTS.glob("*.py")):
        loaded = script.load(path)
        refused = loaded.run_options()
        assert {"out", "overwrite", "redraw", "mesh", "checkpoint_every", "keep"} <= refused
        assert not refused & {*loaded.fields()}
        for name in refused:
            with pytest.raises(ArgumentError, match=f"^--search {name}: ") as error:
                loaded.check_field(name, "--search")
            assert "\n" not in str(error.value)


def test_files_of_cells_become_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "near.py").write_text("")
    (tmp_path / "near.py").write_text("")
    path = tmp_path / "beside" / "script.py"
    mine = f"{tmp_path}/mine.py:MyCell"
    for word, want in {
        "./mine.py:MyCell": mine,
        "mine.py:MyCell": mine,
        "mine:MyCell": mine,
        "deep_./mine.py:MyCell": f"deep_{mine}",
        "near:Cell": "near:Cell",  # a module beside the script
        "./near.py:Cell": f"{tmp_path}/near.py:Cell",
        "./missing.py:Cell": "./missing.py:Cell",
        "lstm": "lstm",
        "log:1:2": "log:1:2",
    }.items():
        assert script.absolute_cell(word, path) == want


def test_files_that_are_not_experiments(tmp_path):
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("import no_such_module")
    for name, words in (
        ("missing.py", "no script .*missing.py"),
        ("empty.py", "has no dataclass Config"),
        ("broken.py", "cannot be loaded: ModuleNotFoundError"),
    ):
        with pytest.raises(ArgumentError, match=words):
            script.load(tmp_path / name)


def test_experiments_take_what_their_types_say():
    """The types that a sweep sees are those that the experiments' own parser takes."""
    for path in sorted(EXPERIMENTS.glob("*.py")):
        loaded = script.load(path)
        config = loaded.config()
        values = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if field.name in loaded.fields() and field.name != "preset"
        }
        types = {name: loaded.types(name) for name in values}
        typed = {
            name: "+".join(map(space.text, value)) if "tuple" in types[name] else value
            for name, value in values.items()
            if value is not None and value != ()
        }
        loaded.check_values(typed)
        from rnnjax.command_line import parse

        assert (
            parse(loaded.config, script.arguments(types, typed), presets=loaded.presets) == config
        )
