"""A logistic regression on the set of words of a text: a comparison that ignores their order."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def logistic_regression(
    train: Mapping[str, np.ndarray], labels: Any, held_out: Mapping[str, np.ndarray], size: int
) -> np.ndarray:
    """Return the classes that a logistic regression on sets of words gives held-out texts, `[N]`.

    Args:
        train, held_out: tokens `words [N, T]` and their number `lengths [N]`.
        labels: of the training texts.
        size: of the vocabulary.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from scipy.sparse import csr_array

    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the networks are compared with scikit-learn's logistic regression, which cannot be "
            f"imported ({error.name} is missing): pip install 'rnnjax[data]'",
            name=error.name,
        ) from None

    def sets(rows):
        read = np.arange(rows["words"].shape[1]) < rows["lengths"][:, None]
        entries = np.ones(read.sum()), (np.nonzero(read)[0], rows["words"][read])
        table = csr_array(entries, (len(read), size))
        table.data[:] = 1  # whether a word occurs, not how often
        return table

    regression = LogisticRegression(C=0.3, solver="newton-cg")  # C chosen on validation tweets
    return regression.fit(sets(train), labels).predict(sets(held_out))
