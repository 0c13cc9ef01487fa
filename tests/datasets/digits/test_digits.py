"""The digits against scikit-learn itself, and the batches of pixels."""

import functools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rnnjax.datasets import digits

SIZES = {"train": 1442, "test": 355}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    digits.prepare(directory)
    return directory


@pytest.fixture(scope="module")
def source():
    bunch: Any = load_digits()
    return bunch.images, bunch.target


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def taken(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys() == {"inputs", "targets", "mask"}
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def image_numbers(batches, permuted=False):
    """Finds each batch column in scikit-learn's images, which are all different."""
    number = numbered_images(permuted)
    columns = 16 * np.concatenate([batch["inputs"][..., 0].T for batch in batches])
    return [number[column.astype(np.uint8).tobytes()] for column in columns]


@functools.cache
def numbered_images(permuted):
    images = load_digits(return_X_y=True)[0].astype(np.uint8)
    if permuted:
        images = images[:, digits.permutation()]
    assert len(np.unique(images, axis=0)) == 1797
    return {image.tobytes(): index for index, image in enumerate(images)}


def test_every_image_is_in_exactly_one_split(data_dir, source):
    import tensorflow_datasets as tfds

    images, labels = source
    builder: Any = tfds.builder_from_directory(digits.prepare(data_dir))
    seen = []
    for split, size in SIZES.items():
        records = builder.as_data_source(split)
        assert len(records) == size
        for record in records:
            assert record["image"].dtype == np.uint8
            np.testing.assert_array_equal(record["image"], images[record["index"]])
            assert record["label"] == labels[record["index"]]
            seen.append(int(record["index"]))
    assert sorted(seen) == list(range(1797))


def test_the_dataset_documents_itself(data_dir):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(digits.prepare(data_dir))
    assert builder.info.full_name == "sklearn_digits/1.0.0"
    assert "UCI" in builder.info.description and "Alpaydin" in builder.info.citation
    assert builder.info.homepage.startswith("https://archive.ics.uci.edu/")


@pytest.mark.parametrize("split", SIZES)
def test_load_is_the_source_row_major_and_every_fifth_of_a_class_is_test(split, data_dir, source):
    images, labels = source
    met = [0] * 10
    expected = []
    for row, label in enumerate(labels):
        met[label] += 1
        if (met[label] % 5 == 0) == (split == "test"):
            expected.append(row)
    pixels, read = digits.load(split, data_dir)
    assert pixels.dtype == np.float32 and read.dtype == np.int32
    assert pixels.min() == 0 and pixels.max() == 1
    for y in range(8):
        for x in range(8):
            np.testing.assert_array_equal(pixels[:, 8 * y + x] * 16, images[expected, y, x])
    np.testing.assert_array_equal(read, labels[expected])


def test_classes_are_balanced_alike_in_both_splits(data_dir):
    train, test = (np.bincount(digits.load(split, data_dir)[1]) for split in SIZES)
    assert train.tolist() == [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]
    assert np.all(np.abs(test / (train + test) - 0.2) < 0.005)


def test_permutation_is_pinned():
    assert sorted(digits.permutation()) == list(range(64))
    assert digits.permutation()[:8].tolist() == [11, 3, 20, 13, 2, 59, 53, 48]
    assert digits.permutation(1).tolist() != digits.permutation().tolist()


def test_batch_carries_the_label_at_every_step_and_counts_the_last(data_dir, source):
    _, labels = source
    batch = next(digits.pipeline("train", 7, seed=3, data_dir=data_dir))
    assert batch["inputs"].shape == (64, 7, 1) and batch["inputs"].dtype == np.float32
    assert batch["targets"].dtype == np.int32 and batch["mask"].dtype == bool
    np.testing.assert_array_equal(batch["targets"], [labels[image_numbers([batch])]] * 64)
    np.testing.assert_array_equal(batch["mask"], [[False] * 7] * 63 + [[True] * 7])


def test_permuted_pixels_are_the_same_pixels_in_the_fixed_order(data_dir):
    plain = next(digits.pipeline("train", 5, seed=0, data_dir=data_dir))
    permuted = next(digits.pipeline("train", 5, seed=0, permuted=True, data_dir=data_dir))
    for step, pixel in enumerate(digits.permutation()):
        np.testing.assert_array_equal(permuted["inputs"][step], plain["inputs"][pixel])
    np.testing.assert_array_equal(permuted["targets"], plain["targets"])
    assert image_numbers([permuted], permuted=True) == image_numbers([plain])


def test_same_seed_same_batches_another_seed_other_batches(data_dir):
    first, again, other = (
        taken(digits.pipeline("train", 64, seed=seed, data_dir=data_dir), 50) for seed in (5, 5, 6)
    )
    assert_same(first, again)
    epochs = {tuple(image_numbers(run[e * 22 :][:22])) for run in (first, other) for e in (0, 1)}
    assert len(epochs) == 4  # Grain's shuffle(seed=5) in epoch 1 is shuffle(seed=6) in epoch 0


def test_order_is_pinned(data_dir):
    batches = taken(digits.pipeline("train", 4, seed=0, data_dir=data_dir), 361)
    assert image_numbers([batches[0], batches[360]]) == [1065, 1146, 331, 1477, 1679, 7, 1708, 897]


def test_each_train_epoch_has_every_image_at_most_once_and_drops_only_the_rest(data_dir):
    batches = list(digits.pipeline("train", 100, seed=0, data_dir=data_dir, epochs=3))
    assert len(batches) == 3 * 14
    for epoch in range(3):
        numbers = image_numbers(batches[14 * epoch :][:14])
        assert len(numbers) == len(set(numbers)) == 1400
    assert len(set(image_numbers(batches))) == 1442  # what is dropped differs


@pytest.mark.parametrize(("split", "batch_size"), [("train", 1442), ("test", 100), ("test", 355)])
def test_each_epoch_has_every_image_exactly_once(split, batch_size, data_dir):
    count = -(-SIZES[split] // batch_size)
    batches = list(digits.pipeline(split, batch_size, seed=1, data_dir=data_dir, epochs=2))
    first, second = (image_numbers(batches[count * epoch :][:count]) for epoch in (0, 1))
    assert len(batches) == 2 * count and first != second
    assert sorted(first) == sorted(second) and len(set(first)) == len(first) == SIZES[split]


def test_state_saved_mid_epoch_continues_with_the_same_batches(data_dir):
    iterator = digits.pipeline("train", 64, seed=2, data_dir=data_dir)
    taken(iterator, 9)
    state = json.loads(json.dumps(iterator.get_state()))
    rest = taken(iterator, 40)  # past the end of the epoch, 22 batches
    restored = digits.pipeline("train", 64, seed=2, data_dir=data_dir)
    restored.set_state(state)
    assert_same(taken(restored, 40), rest)
    iterator.set_state(state)
    assert_same(taken(iterator, 40), rest)


def test_a_batch_belongs_to_its_receiver(data_dir):
    iterator = digits.pipeline("train", 8, seed=0, data_dir=data_dir)
    state = iterator.get_state()
    batch = next(iterator)
    kept = {name: value.copy() for name, value in batch.items()}
    for value in batch.values():
        value[...] = 0
    iterator.set_state(state)
    assert_same([next(iterator)], [kept])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "valid"}, "split must be one of train, test; got 'valid'"),
        ({"batch_size": 0}, "batch_size must be between 1 and 355, the number of examples; got 0"),
        ({"batch_size": 356}, "batch_size must be between 1 and 355.*got 356"),
        ({"seed": -1}, "seed must be between 0 and .*got -1"),
        ({"seed": 2**32}, "seed must be between 0 and .*got 4294967296"),
        ({"epochs": 0}, "epochs must be None or at least 1; got 0"),
    ],
)
def test_what_is_out_of_range_is_named(change, message, data_dir):
    arguments = {"split": "test", "batch_size": 8, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        digits.pipeline(**arguments, data_dir=data_dir)


def test_without_scikit_learn_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[data\]'") as caught:
        digits.prepare(tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_prepared_data_need_no_scikit_learn(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert len(digits.load("test", data_dir)[1]) == 355


def test_datasets_load_what_they_use_when_they_use_it_and_never_tensorflow(data_dir):
    code = (
        "import sys; from rnnjax.datasets import digits\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'sklearn', 'array_record'}\n"
        "print(sorted(heavy & {*sys.modules}))\n"
        "next(digits.pipeline('test', 8, seed=0, data_dir=sys.argv[1]))\n"
        "print(sorted(heavy & {*sys.modules}))"
    )
    output, _ = python(code, data_dir).communicate()
    assert output == "[]\n['array_record', 'grain', 'tensorflow_datasets']\n"
