"""What the TFDS builders of spoken digits have in common."""

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder


class SpokenDigits(Builder, skip_registration=True):
    """Spoken digits, 8 kHz; abstract."""

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "digits": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "accent": tfds.features.Text(),
            "speed": tfds.features.Scalar(dtype=np.int32),
            "pitch": tfds.features.Scalar(dtype=np.int32),
        }
