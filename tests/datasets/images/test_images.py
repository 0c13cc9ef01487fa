"""Images: the idx files of MNIST served on loopback, image files of any kind, ink and paper."""

import gzip
import hashlib

import numpy as np
import pytest
from PIL import Image

from rnnjax.datasets import images, preparing
from rnnjax.datasets.images import builder
from rnnjax.datasets.images.idx import read_idx


def idx(array):
    """Return the bytes of an idx file, by its definition."""
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes(), mtime=0)


@pytest.fixture
def mnist(served, monkeypatch):
    """Serve the four files of a small MNIST; give the folder and the arrays."""
    folder, address = served
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 7), ("test", 4)):
        pictures = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[split] = pictures, rng.integers(0, 10, count).astype(np.uint8)
        for name, array in zip(builder.FILES[split], arrays[split], strict=True):
            (folder / name).write_bytes(idx(array))
    downloads = {
        f"{address}/{path.name}": (
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.iterdir()
    }
    monkeypatch.setattr(builder.Mnist, "ADDRESS", f"{address}/")
    monkeypatch.setattr(builder.Mnist, "DOWNLOADS", downloads)
    return folder, arrays


def test_mnist_is_downloaded_once_and_read_as_it_is(mnist, tmp_path):
    folder, arrays = mnist
    for split in arrays:
        pixels, labels = images.load("mnist", split, tmp_path / "data")
        np.testing.assert_array_equal(pixels, arrays[split][0].astype(np.float32) / 255)
        np.testing.assert_array_equal(labels, arrays[split][1])
        for path in folder.iterdir():  # from now on nothing can be fetched
            path.unlink()


def test_a_download_that_is_not_the_original_is_refused(mnist, tmp_path):
    folder, _ = mnist
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(OSError, match="mnist could not be downloaded") as caught:
        images.load("mnist", "train", tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "mnist").exists()


def test_without_a_network_the_error_is_one_line(mnist, tmp_path):
    folder, _ = mnist
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(OSError, match="mnist could not be downloaded") as caught:
        preparing.prepare(builder.Mnist, tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("builder", [builder.Mnist, builder.FashionMnist])
def test_addresses_and_checksums_are_those_of_tfds(builder):
    import tensorflow_datasets as tfds

    known = tfds.download.checksums.get_all_url_infos()
    assert len(builder.DOWNLOADS) == 4
    for address, info in builder.url_infos.items():
        assert known[address] == info


def test_tfds_still_finds_its_own_builder_of_the_same_name():
    import tensorflow_datasets as tfds

    assert builder.Mnist.name == "mnist"
    assert not tfds.builder_cls("mnist").__module__.startswith("rnnjax")


def test_digits_are_the_same_images():
    from rnnjax.datasets import digits

    pixels, labels = images.load("digits", "test")
    flat, names = digits.load("test")
    np.testing.assert_array_equal(pixels.reshape(355, 64), flat)
    np.testing.assert_array_equal(labels, names)
    with pytest.raises(ValueError, match=r"source must be one of digits, .*got 'cifar'"):
        images.load("cifar", "test")


def test_what_is_no_idx_file_is_refused(tmp_path):
    (tmp_path / "file.gz").write_bytes(gzip.compress(b"hello there"))
    with pytest.raises(ValueError, match="not an idx file"):
        read_idx(tmp_path / "file.gz")


@pytest.mark.parametrize("ink_on_paper", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_an_image_file_is_ink_on_ground_whatever_its_colours(tmp_path, ink_on_paper, mode):
    seven = np.zeros((8, 8), np.uint8)
    seven[1, 2:6] = seven[2:7, 5] = 255
    large = np.kron(255 - seven if ink_on_paper else seven, np.ones((5, 5), np.uint8))
    Image.fromarray(large).convert(mode).save(tmp_path / "seven.png")
    np.testing.assert_array_equal(images.read_file(tmp_path / "seven.png", 8), seven / 255)


def test_what_is_no_image_is_refused(tmp_path):
    for content in (b"", b"not an image"):
        (tmp_path / "file.png").write_bytes(content)
        with pytest.raises(ValueError, match="is not an image file"):
            images.read_file(tmp_path / "file.png", 8)
