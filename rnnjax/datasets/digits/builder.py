"""The TFDS builder of the handwritten digits that scikit-learn ships; runs without TensorFlow."""

from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder


class SklearnDigits(Builder, skip_registration=True):
    """Builds examples of image [8, 8] uint8 in 0..16, label 0..9 and index, the row in the source.

    Raises ModuleNotFoundError when scikit-learn is missing. Source: E. Alpaydin and C. Kaynak,
    UCI "Optical Recognition of Handwritten Digits" (1998), test set, from
    `sklearn.datasets.load_digits`; scikit-learn is BSD-3-Clause and names no separate licence for
    these data.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "scikit-learn's 1,797 digits; test is every fifth of each class."
    }
    DESCRIPTION = """\
1,797 grey images of handwritten digits, 8x8 pixels of intensity 0 to 16 (the number of ink pixels
in a 4x4 block of a 32x32 bitmap): the test set of the UCI "Optical Recognition of Handwritten
Digits" data, as scikit-learn ships it. Test: every fifth image of each class, in file order (the
5th, 10th, ...), 355 in all; train: the other 1,442. The splits do not keep the 13 writers apart,
so test accuracy says nothing about new writers. Demonstration scale."""
    CITATION = """\
@article{alpaydin1998cascading,
  title = {Cascading Classifiers},
  author = {Alpaydin, E. and Kaynak, C.},
  journal = {Kybernetika},
  year = {1998},
}"""
    HOMEPAGE = "https://archive.ics.uci.edu/ml/datasets/Optical+Recognition+of+Handwritten+Digits"

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {
            "image": tfds.features.Tensor(shape=(8, 8), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=10),
        }

    def _split_generators(self, dl_manager):
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the digits are read from scikit-learn, which cannot be imported "
                f"({error.name} is missing): pip install 'rnnjax[data]'",
                name=error.name,
            ) from None
        pixels, labels = map(np.asarray, load_digits(return_X_y=True))
        images = pixels.astype(np.uint8).reshape(-1, 8, 8)
        fifths = [np.flatnonzero(labels == digit)[4::5] for digit in range(10)]
        test = np.isin(np.arange(len(labels)), np.concatenate(fifths))

        def rows(chosen):
            for row in np.flatnonzero(chosen):
                yield {"image": images[row], "label": int(labels[row]), "index": int(row)}

        return {
            "train": self._generate_examples(rows(~test)),
            "test": self._generate_examples(rows(test)),
        }
