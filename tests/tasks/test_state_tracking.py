"""Strings of automata and tasks of recall: labels by brute force, chance levels by enumeration."""

import collections
import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import tasks

MANY = 512
S3_GENERATORS = (1, 0, 2), (1, 2, 0)
A5_GENERATORS = (1, 2, 0, 3, 4), (1, 2, 3, 4, 0)


def product_of(generators):
    """The label of a word, by applying its permutations one after the other to the things."""

    def label(symbols):
        things = list(range(len(generators[0])))
        for symbol in symbols:
            things = [generators[symbol][i] for i in things]
        return tuple(things)

    return label


def value_of(symbols):
    """The value modulo 5, by Python's own arithmetic."""
    return eval("".join("01234+-*"[s] for s in symbols)) % 5


LANGUAGES = {
    "parity": (tasks.Parity(6), lambda s: sum(s) % 2),
    "even pairs": (
        tasks.EvenPairs(6),
        lambda s: sum(a != b for a, b in itertools.pairwise(s)) % 2,
    ),
    "cycle": (tasks.CycleNavigation(6), lambda s: sum(step - 1 for step in s) % 5),
    "arithmetic": (tasks.ModularArithmetic(7), value_of),
    "S3": (tasks.WordProblem(6), product_of(S3_GENERATORS)),
    "A5": (tasks.WordProblem(9, group="A5"), product_of(A5_GENERATORS)),
}


def drawn(task, seed=0):
    batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), MANY)
    return jax.tree.map(np.asarray, batch)


def symbols_of(batch):
    assert ((batch.inputs == 0) | (batch.inputs == 1)).all() and (batch.inputs.sum(-1) == 1).all()
    return batch.inputs.argmax(-1).T.tolist()


def in_order(name, labels):
    """Elements of a group in the order of a breadth-first search, other labels as they are."""
    if name not in ("S3", "A5"):
        return labels
    generators = {"S3": S3_GENERATORS, "A5": A5_GENERATORS}[name]
    order, queue = {}, collections.deque([tuple(range(len(generators[0])))])
    while queue:
        element = queue.popleft()
        if element not in order:
            order[element] = len(order)
            queue += [tuple(g[i] for i in element) for g in generators]
    assert len(order) == {"S3": 6, "A5": 60}[name]
    return [order[label] for label in labels]


@pytest.mark.parametrize("name", LANGUAGES)
def test_labels_are_those_of_brute_force(name):
    task, label = LANGUAGES[name]
    batch = drawn(task)
    assert (batch.mask == (np.arange(task.total_length) == task.total_length - 1)[:, None]).all()
    want = in_order(name, [label(symbols) for symbols in symbols_of(batch)])
    np.testing.assert_array_equal(batch.targets[-1], want)
    assert not batch.targets[:-1].any()


@pytest.mark.parametrize("name", LANGUAGES)
def test_chance_is_the_entropy_of_the_labels_of_all_strings(name):
    task, label = LANGUAGES[name]
    if name == "arithmetic":
        places = [range(5) if t % 2 == 0 else range(5, 8) for t in range(task.total_length)]
    else:
        places = [range(task.input_size)] * task.total_length
    counts = collections.Counter(map(label, itertools.product(*places)))
    shares = np.array([*counts.values()]) / counts.total()
    assert task.chance == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-12)
    assert task.chance <= math.log(task.output_size) + 1e-12


@pytest.mark.parametrize("name", ["parity", "arithmetic", "S3"])
def test_strings_of_different_lengths_are_labelled_where_they_end(name):
    task, label = LANGUAGES[name]
    task = dataclasses.replace(task, shortest=3)
    allowed = {3, 5, 7} if name == "arithmetic" else {3, 4, 5, 6}
    assert task.total_lengths == tuple(sorted(allowed))
    batch = drawn(task)
    assert (batch.mask.sum(0) == 1).all()
    ends = batch.mask.argmax(0) + 1
    counts = collections.Counter(ends.tolist())
    assert counts.keys() == allowed and min(counts.values()) > 0.7 * MANY / len(allowed)
    found = []
    for b, end in enumerate(ends):
        assert (batch.inputs[:end, b].sum(-1) == 1).all() and not batch.inputs[end:, b].any()
        found.append(label(batch.inputs[:end, b].argmax(-1).tolist()))
    answers = batch.targets[ends - 1, np.arange(MANY)]
    np.testing.assert_array_equal(answers, in_order(name, found))
    same = [dataclasses.replace(task, length=n, shortest=None) for n in allowed]
    assert task.chance == pytest.approx(np.mean([t.chance for t in same]), rel=1e-12)
    perfect = 20 * jax.nn.one_hot(batch.targets, task.output_size)
    batch = jax.tree.map(jnp.asarray, batch)
    assert task.metrics(perfect, batch)["accuracy"] == 1
    assert task.metrics(-perfect, batch)["accuracy"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortest": 0}, "shortest must be an integer of at least 1"),
        ({"shortest": 7}, "shortest must be at most length = 6, got 7"),
    ],
)
def test_a_shortest_length_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.Parity(6, **arguments)


@pytest.mark.parametrize("name", ["parity", "arithmetic"])
def test_symbols_are_independent_and_uniform(name):
    task, _ = LANGUAGES[name]
    symbols = np.array(symbols_of(drawn(task)))
    for t in range(task.total_length):
        allowed = range(task.input_size)
        if name == "arithmetic":
            allowed = range(5) if t % 2 == 0 else range(5, 8)
        counts = np.bincount(symbols[:, t], minlength=task.input_size)
        assert set(np.flatnonzero(counts)) == set(allowed)
        assert counts[counts > 0].min() > 0.6 * MANY / len(allowed)
    assert len({tuple(row) for row in symbols.tolist()}) >= 60


def test_a_selective_copy_by_hand():
    task = tasks.SelectiveCopy(12, symbols=3, memorise=4)
    batch = drawn(task)
    for b, symbols in enumerate(symbols_of(batch)):
        assert symbols[12:] == [4] * 4 and 4 not in symbols[:12]
        kept = [s for s in symbols[:12] if s != 3]
        assert len(kept) == 4 and kept == batch.targets[12:, b].tolist()
    assert (batch.mask == (np.arange(16) >= 12)[:, None]).all()
    places = np.array(symbols_of(batch))[:, :12] != 3
    assert (abs(places.mean(0) - 1 / 3) < 0.1).all()


def test_a_variable_copy_by_hand():
    task = tasks.VariableCopy(5, symbols=3)
    batch, lengths = drawn(task), collections.Counter()
    for b, symbols in enumerate(symbols_of(batch)):
        count = symbols.index(4)
        lengths[count] += 1
        assert symbols[count + 1 :] == [3] * (10 - count)
        scored = np.flatnonzero(batch.mask[:, b])
        assert scored.tolist() == [*range(count + 1, 2 * count + 1)]
        assert batch.targets[scored, b].tolist() == symbols[:count]
    assert set(lengths) == {1, 2, 3, 4, 5} and min(lengths.values()) > MANY / 10


def test_associative_recall_by_hand():
    task = tasks.AssociativeRecall(14, pairs=3, keys=5, values=4)
    batch = drawn(task)
    for b, symbols in enumerate(symbols_of(batch)):
        pairs = dict(zip(symbols[0:6:2], symbols[1:6:2], strict=True))
        assert len(pairs) == 3 and all(key < 5 for key in pairs)
        assert len(set(pairs.values())) == 3 and all(5 <= v < 9 for v in pairs.values())
        asked = [t for t in range(6, 14) if symbols[t] != 9]
        assert sorted(symbols[t] for t in asked) == sorted(pairs)
        assert np.flatnonzero(batch.mask[:, b]).tolist() == asked
        assert [batch.targets[t, b] + 5 for t in asked] == [pairs[symbols[t]] for t in asked]
    assert (batch.mask.mean(1)[6:] > 0.2).all()


def test_a_delayed_xor_by_hand():
    batch = drawn(tasks.DelayedXOR(9))
    cases = collections.Counter()
    for b, symbols in enumerate(symbols_of(batch)):
        assert [t for t, s in enumerate(symbols) if s != 2] == [0, 4]
        assert batch.targets[-1, b] == symbols[0] ^ symbols[4]
        cases[symbols[0], symbols[4]] += 1
    assert len(cases) == 4 and min(cases.values()) > MANY / 6


def test_a_stream_of_delayed_xors_by_hand():
    task = tasks.DelayedXOREngelken2023(9, delay=2)
    batch = drawn(task)
    assert batch.inputs.shape == (9, MANY, 1) and set(np.unique(batch.inputs)) == {0, 1}
    assert (batch.mask == (np.arange(9) >= 4)[:, None]).all()
    assert abs(batch.inputs.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(batch.inputs.size)
    for b, bits in enumerate(batch.inputs[..., 0].T.astype(int).tolist()):
        want = [bits[t - 2] != bits[t - 4] if t >= 4 else 0 for t in range(9)]
        assert batch.targets[:, b].tolist() == want
    batch = jax.tree.map(jnp.asarray, batch)
    right = 60 * jnp.eye(2)[batch.targets]
    found = task.metrics(right, batch)
    assert found["accuracy"] == 1 and found["loss"] < 1e-6 and task.success(found)
    half = right.at[:6].set(right[:6, :, ::-1])  # wrong at two of five scored steps
    found = task.metrics(half, batch)
    assert found["accuracy"] == pytest.approx(0.6) and not task.success(found)
    nothing = task.metrics(0 * right, batch)
    assert nothing["loss"] == pytest.approx(task.chance) and task.chance == math.log(2)
    shuffled = task.metrics(right[:, ::-1], batch)
    assert abs(shuffled["accuracy"] - 0.5) < 0.1 and not task.success(shuffled)


def test_delayed_recall_by_hand():
    task = tasks.DelayedRecall(7, delay=3)
    batch = drawn(task)
    assert batch.inputs.shape == batch.targets.shape == (7, MANY, 1)
    assert (batch.mask == (np.arange(7) >= 3)[:, None]).all()
    for t in range(7):
        np.testing.assert_array_equal(batch.targets[t], batch.inputs[t - 3] if t >= 3 else 0)
    x = batch.inputs.astype(float)
    assert -1 <= x.min() < -0.99 and 0.99 < x.max() < 1
    assert abs(x.mean()) < 4.5 / math.sqrt(3 * x.size)
    assert abs((x[0] * x[3]).mean()) < 4.5 / 3 / math.sqrt(MANY)  # independent
    batch = jax.tree.map(jnp.asarray, batch)
    nothing = task.metrics(0 * batch.targets, batch)
    error = 4.5 * math.sqrt(4 / 45 / (4 * MANY))  # Var x^2 = 1/5 - 1/9
    assert abs(nothing["loss"] - task.chance) < error and task.chance == 1 / 3
    found = task.metrics(batch.targets + 0.15, batch)
    assert found["accuracy"] == 1 and task.success(found)
    shuffled = task.metrics(batch.targets[:, ::-1], batch)
    assert shuffled["accuracy"] < 0.01 and not task.success(shuffled)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.Parity(0), "length must be an integer of at least 1, got 0"),
        (lambda: tasks.CycleNavigation(3, places=1), "places must be an integer of at least 2"),
        (lambda: tasks.ModularArithmetic(3, modulus=1), "modulus must be an integer of at least 2"),
        (lambda: tasks.WordProblem(3, group="A6"), "group must be S3 or A5, got 'A6'"),
        (lambda: tasks.SelectiveCopy(3, memorise=4), "length must be an integer of at least 4"),
        (lambda: tasks.VariableCopy(3, symbols=1), "symbols must be an integer of at least 2"),
        (lambda: tasks.AssociativeRecall(8, pairs=3), "length must be an integer of at least 9"),
        (lambda: tasks.AssociativeRecall(9, pairs=3, keys=2), "keys must be an integer of at leas"),
        (lambda: tasks.DelayedXOR(2), "length must be an integer of at least 3, got 2"),
        (lambda: tasks.DelayedRecall(9, 0), "delay must be an integer of at least 1, got 0"),
        (lambda: tasks.DelayedRecall(4, 4), "length must be an integer of at least 5, got 4"),
        (lambda: tasks.DelayedXOREngelken2023(9, 0), "delay must be an integer of at least 1, got"),
        (
            lambda: tasks.DelayedXOREngelken2023(8, 4),
            "length must be an integer of at least 9, got",
        ),
    ],
)
def test_what_is_refused(make, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_even_length_of_an_expression_is_rounded_down():
    assert [tasks.ModularArithmetic(n).total_length for n in (1, 2, 5, 6)] == [1, 1, 5, 5]


@pytest.mark.parametrize("make", [tasks.SelectiveCopy, tasks.AssociativeRecall, tasks.VariableCopy])
def test_a_sequence_with_one_wrong_answer_is_not_correct(make):
    task = make()
    batch = task.sample(jax.random.key(0), 4)
    right = 60 * np.eye(task.output_size, dtype=np.float32)[batch.targets]
    t = int(np.flatnonzero(batch.mask[:, 2])[0])
    wrong = right.copy()
    wrong[t, 2] = np.roll(wrong[t, 2], 1)
    right, wrong = jnp.asarray(right), jnp.asarray(wrong)
    assert task.correct(right, batch).all() and float(task.loss(right, batch)) == 0
    assert task.correct(wrong, batch).tolist() == [True, True, False, True]
    assert task.success({"accuracy": 0.99}) and not task.success({"accuracy": 0.98})
