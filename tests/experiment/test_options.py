"""Options that experiments share: what is refused, what changes no number, what --help shows."""

import dataclasses

import jax
import pytest
from scripts import ROOT

from rnnjax import tasks
from rnnjax.command_line import ArgumentError, help_text
from rnnjax.experiment import (
    CellOptions,
    PredictOptions,
    RunOptions,
    TrainingOptions,
    make_task,
    run_options,
)
from rnnjax.sweep import script


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, TrainingOptions, PredictOptions):
    """Learn something.

    In two paragraphs.
    """

    length: int = 100
    """Sequence length T."""
    steps: int = 1234
    batch_size: int = 7
    """Sequences per update."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"steps": 10**11}, "--steps must be at most 1000000000, got 100000000000"),
        ({"seeds": 10**11}, "--seeds must be at most 1000000, got 100000000000"),
        ({"seed": 2**32}, "--seed must be at most 4294967295, got 4294967296"),
        (
            {"seed": 2**32 - 2, "seeds": 3},
            "--seed and --seeds must count up to at most 4294967295, beyond which JAX's keys "
            "repeat; got 4294967294 and 3",
        ),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"record_every": 0}, "--record-every must be at least 1, got 0"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"learning_rate": float("nan")}, "--learning-rate must be positive and finite, got nan"),
        ({"clip": 0.0}, "--clip must be positive and finite, got 0.0"),
        ({"features": 0}, "--features must be at least 1, got 0"),
        ({"keep": 0}, "--keep must be at least 1, got 0"),
    ],
)
def test_every_class_of_the_chain_checks_its_own(change, message):
    with pytest.raises(ArgumentError) as error:
        Config(**change)
    assert str(error.value) == message


def test_the_largest_seed_is_not_a_small_one():
    config = Config(seed=2**32 - 2, seeds=2)
    keys = {str(jax.random.key_data(jax.random.key(seed))) for seed in (0, 1, *config.members)}
    assert len(keys) == 4


def test_members_are_the_seeds_in_order():
    assert Config(seed=3, seeds=2).members == [3, 4]


def test_options_that_change_no_number():
    fields = {field.name for field in dataclasses.fields(RunOptions)}
    assert run_options(Config()) == fields | {"predict"}
    assert {"out", "mesh", "keep", "checkpoint_every"} <= fields
    assert not {"steps", "seed", "cells"} & run_options(Config())


@pytest.mark.parametrize("name", sorted(run_options(RunOptions())))
def test_a_sweep_does_not_search_over_what_changes_no_number(name):
    loaded = script.load(ROOT / "experiments" / "vanishing_gradients.py")
    with pytest.raises(ArgumentError, match=f"--search {name}: "):
        loaded.check_field(name, "--search")
    if name in script.NOT_FOR_TRIALS:
        with pytest.raises(ArgumentError, match="a sweep sets"):
            loaded.check_field(name, "--set")
    else:
        loaded.check_field(name, "--set")
    loaded.check_field("learning_rate", "--search")


def test_a_task_that_cannot_be_made_is_a_wrong_argument():
    assert make_task({"adding": tasks.AddingArjovsky2016}, "adding", length=9).length == 9
    with pytest.raises(ArgumentError, match="--length must be an integer of at least 2, got 1"):
        make_task({"adding": tasks.AddingArjovsky2016}, "adding", length=1)


def test_help_shows_an_experiments_own_options_first():
    text = help_text(Config, width=80)
    assert text.index("Learn something.") < text.index("In two paragraphs.")
    order = ["--length", "--help", "--cells", "--steps", "--seeds", "--predict", "--out", "--mesh"]
    places = [text.index(f"  {name}") for name in order if name != "--help"]
    assert places == sorted(places)
    assert "  --length N                  Sequence length T. (default: 100)" in text
    assert "(default: 1234)" in text and "(default: 7)" in text  # overridden, in their sections
    assert "(default: elman lstm gru)" in " ".join(text.split())
    assert "--overwrite, --no-overwrite" in text
    assert "Sequences per update." in text and "Examples per update." not in text
    assert max(map(len, text.splitlines())) <= 80
    defaults = Config(steps=5, cells=("gru",))
    assert "(default: 5)" in help_text(Config, defaults)
    assert "(default: gru)" in help_text(Config, defaults)
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')}" in text


def test_a_number_is_at_most_the_dimensions_of_every_cells_state():
    @dataclasses.dataclass(frozen=True)
    class Directions(CellOptions):
        exponents: int = 6

        def __post_init__(self):
            super().__post_init__()
            self.at_most_state("exponents")

    Directions(cells=("gru", "lstm"), features=6)
    Directions(cells=("lru",), features=3)  # three complex numbers
    with pytest.raises(ArgumentError) as error:
        Directions(cells=("lstm", "gru"), features=5)
    expected = "--exponents must be at most 5, the dimensions of the state of gru, got 6"
    assert str(error.value) == expected
