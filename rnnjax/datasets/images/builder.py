"""TFDS builders of MNIST and Fashion-MNIST, from their original files; run without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder
from rnnjax.datasets.images.idx import read_idx

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class IdxImages(Builder, skip_registration=True):
    """Builds examples of image [28, 28] uint8 and label 0..9 from four idx files; abstract."""

    VERSION = tfds.core.Version("1.0.0")
    ADDRESS: ClassVar[str]

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {
            "image": tfds.features.Tensor(shape=(28, 28), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=10),
        }

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(
                _rows(*(Path(dl_manager.download(self.ADDRESS + file)) for file in files))
            )
            for split, files in FILES.items()
        }


class Mnist(IdxImages, skip_registration=True):
    """Builds MNIST: 60,000 and 10,000 handwritten digits, 28x28 pixels of 0..255.

    Source: LeCun, Cortes, Burges 1998, "The MNIST database of handwritten digits".
    """

    DESCRIPTION = "Handwritten digits, 28x28 pixels, writers apart in train and test."
    CITATION = """\
@misc{lecun1998mnist,
  title = {The MNIST database of handwritten digits},
  author = {LeCun, Y. and Cortes, C. and Burges, C. J. C.},
  year = {1998},
}"""
    HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"
    ADDRESS = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    DOWNLOADS: ClassVar = {
        f"{ADDRESS}train-images-idx3-ubyte.gz": (
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        f"{ADDRESS}train-labels-idx1-ubyte.gz": (
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        f"{ADDRESS}t10k-images-idx3-ubyte.gz": (
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        f"{ADDRESS}t10k-labels-idx1-ubyte.gz": (
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    }


class FashionMnist(IdxImages, skip_registration=True):
    """Builds Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 28x28 pixels of 0..255.

    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """

    DESCRIPTION = "Pictures of clothes from Zalando, ten kinds, 28x28 pixels. MIT licence."
    CITATION = """\
@article{xiao2017fashion,
  title = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, H. and Rasul, K. and Vollgraf, R.},
  journal = {arXiv:1708.07747},
  year = {2017},
}"""
    HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"
    ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    DOWNLOADS: ClassVar = {
        f"{ADDRESS}train-images-idx3-ubyte.gz": (
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        f"{ADDRESS}train-labels-idx1-ubyte.gz": (
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        f"{ADDRESS}t10k-images-idx3-ubyte.gz": (
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        f"{ADDRESS}t10k-labels-idx1-ubyte.gz": (
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    }


def _rows(images: Path, labels: Path) -> Iterator[dict]:
    for image, label in zip(read_idx(images), read_idx(labels), strict=True):
        yield {"image": image, "label": int(label)}


BUILDERS = {"mnist": Mnist, "fashion_mnist": FashionMnist}
