"""How well answers fit the labels: accuracy, and the mean of F1 over classes."""

from typing import Any

import numpy as np


def scores(labels: Any, answers: Any) -> dict[str, float]:
    """Return the `accuracy` of answers `[N]`, and their `macro_f1`.

        F1 = 2 TP / (2 TP + FP + FN)

    of each class that occurs among the labels; `macro_f1` is the mean over these classes, so that
    rare classes count as much as frequent ones.
    """
    from sklearn.metrics import f1_score

    labels, answers = np.asarray(labels), np.asarray(answers)
    f1 = f1_score(labels, answers, labels=np.unique(labels), average="macro")
    return {"accuracy": float((answers == labels).mean()), "macro_f1": float(f1)}
