"""Random networks: a cell, the claims about their exponents in small, and what is said of them."""

import math

import numpy as np
import pytest

from rnnjax.diagnostics import mean_field_exponent
from rnnjax.experiment import random_networks
from rnnjax.testing import check_cell


@pytest.mark.slow
def test_the_network_is_a_cell():
    check_cell(random_networks.RandomNetwork(5), 3)


@pytest.mark.slow
def test_the_claim_holds_in_small():
    """Below gain 1 the first exponent is ln |mu_1| of each seed; at gain 3 it is mean-field's."""
    exponents, error, contracting = random_networks.spectra([0, 1], 40, 0.6, 1, 200, 600).values()
    allowed = np.maximum(3 * error[:, 0], 0.005)
    assert (np.abs(exponents[:, 0] - contracting) < allowed).all()
    exponents, _, _ = random_networks.spectra([0, 1], 120, 3.0, 1, 200, 600).values()
    assert exponents.mean() == pytest.approx(mean_field_exponent(3.0), abs=0.05)


def test_the_theory_is_mean_field_above_gain_1_and_the_spectral_radius_below():
    found = {"exponents": np.array([[-0.5], [-0.7]]), "errors": np.array([[0.1], [0.2]])}
    found["radius"] = np.array([-0.4, -0.6])
    row, entry = random_networks.describe_first(0.5, found)
    assert (row["gain"], row["theory"]) == (0.5, entry["theory"])
    assert (row["q25"], row["q75"]) == (-0.7, -0.5)
    assert (entry["mean"], entry["theory"]) == (pytest.approx(-0.6), pytest.approx(-0.5))
    assert entry["spread"] == pytest.approx(math.sqrt(0.02))
    assert entry["standard_error_of_seeds"] == [0.1, 0.2]
    assert random_networks.describe_first(2.0, found)[1]["theory"] == mean_field_exponent(2.0)
    one = {name: values[:1] for name, values in found.items()}
    assert math.isnan(random_networks.describe_first(0.5, one)[1]["spread"])


def test_spectra_are_compared_at_equal_places_in_the_upper_half():
    def row(size, shift):
        place = (np.arange(size) + 0.5) / size
        return {"size": size, "place": place, "median": -place + shift * (place < 0.5)}

    rows = [row(10, 5.0), row(40, 0.0), row(20, 0.25)]
    assert random_networks.largest_distance(rows) == pytest.approx(0.25)
