"""The logistic regression on sets of words, against scikit-learn's own count vectors."""

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from rnnjax.datasets import batches
from rnnjax.datasets.sentiment.bag_of_words import logistic_regression
from rnnjax.datasets.vocabulary import Vocabulary

WORDS = Vocabulary(("<unknown>", "<end>", "good", "bad", "not"))


def test_the_regression_is_that_on_sets_of_words():
    draw = np.random.RandomState(0)
    texts = [list(draw.choice(WORDS.tokens[2:], n)) for n in draw.randint(1, 9, 80)]
    labels = np.array([("good" in t) + 2 * ("bad" in t) for t in texts])
    words, lengths = batches.pad([WORDS.encode(text) for text in texts], 8)
    rows = {"words": words, "lengths": lengths}
    found = logistic_regression(rows, labels, rows, len(WORDS))
    sets = CountVectorizer(vocabulary=WORDS.tokens, binary=True)
    table = sets.transform(map(" ".join, texts))
    expected = LogisticRegression(C=0.3, solver="newton-cg").fit(table, labels).predict(table)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) >= 3
