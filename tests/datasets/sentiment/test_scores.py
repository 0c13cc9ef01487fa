"""Scores of answers, by hand."""

import numpy as np
import pytest

from rnnjax.datasets.sentiment.scores import scores


def test_macro_f1_is_the_mean_over_the_classes_of_the_labels():
    labels, answers = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    # class 0: 2 TP, 0 FP, 1 FN; class 1: 1 TP, 1 FP, 1 FN; class 2 occurs in no label
    found = scores(labels, answers)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 4) / 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
