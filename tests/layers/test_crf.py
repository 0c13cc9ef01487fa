"""The conditional random field against sums over all paths."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from architectures import D, H
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from scipy.special import logsumexp
from scipy.stats import chi2
from slow import slow_but_for

from rnnjax import GRU, layers, models
from rnnjax.layers import RNN, CRFHead, CRFOutputs, SoftmaxHead, bio_forbidden

KEY = jax.random.key(0)
LENGTHS = np.array([4, 3, 1, 0, 4, 2])
B, T, K = len(LENGTHS), 4, 3
VALID = np.arange(T) < LENGTHS[:, None]
RNG = np.random.default_rng(3)
LOGITS, A = RNG.normal(size=(B, T, K)), RNG.normal(size=(K, K))
START, END = RNG.normal(size=(2, K))
TARGETS = np.where(VALID, RNG.integers(0, K, (B, T)), -100)
PADDED = np.where(VALID[..., None], LOGITS, np.nan)
SCORES = LOGITS, A, START, END
RULED_OUT = (1, 0), (2, 2), (None, 1), (0, None)


def outputs(logits=PADDED, transitions=A, start=START, end=END, lengths=LENGTHS):
    return CRFOutputs(*map(jnp.asarray, (logits, transitions, start, end)), lengths)


def loss_of(given, targets):
    return CRFHead.loss(given, jnp.asarray(targets))


@jax.jit
def everything(given, targets):
    best, value = CRFHead.viterbi(given)
    return {
        "loss": CRFHead.loss(given, targets),
        "total": CRFHead.log_partition(given),
        "marginals": CRFHead.marginals(given),
        "mode": CRFHead.mode(given),
        "best": best,
        "score": value,
        "drawn": CRFHead.sample(given, key=KEY),
    }


def without(pairs, transitions, start, end):
    """Return the scores with -inf for each pair."""
    transitions, start, end = (np.array(a) for a in (transitions, start, end))
    for i, j in pairs:
        if i is None:
            start[j] = -np.inf
        elif j is None:
            end[i] = -np.inf
        else:
            transitions[i, j] = -np.inf
    return transitions, start, end


def score(logits, transitions, start, end, path):
    """The score of one path, term by term."""
    if not len(path):
        return 0.0
    total = start[path[0]] + sum(logits[t, k] for t, k in enumerate(path)) + end[path[-1]]
    return total + sum(transitions[i, j] for i, j in itertools.pairwise(path))


def every_path(logits, transitions, start, end, n):
    """All paths of n steps by their score."""
    paths = itertools.product(range(logits.shape[-1]), repeat=n)
    return {path: score(logits, transitions, start, end, path) for path in paths}


def log_partitions(logits, *others, lengths=LENGTHS):
    rows = zip(logits, lengths, strict=True)
    return np.array([logsumexp([*every_path(row, *others, n).values()]) for row, n in rows])


def marginals(logits, *others, lengths=LENGTHS):
    found = np.zeros(logits.shape)
    for b, n in enumerate(lengths):
        paths = every_path(logits[b], *others, n)
        total = logsumexp([*paths.values()])
        for path, value in paths.items():
            found[b, np.arange(n), path] += np.exp(value - total)
    return found


def losses(logits, *others, targets=TARGETS, lengths=LENGTHS):
    totals = log_partitions(logits, *others, lengths=lengths)
    rows = zip(logits, targets, lengths, strict=True)
    return totals - np.array([score(x, *others, y[:n].tolist()) for x, y, n in rows])


def best_path(logits, *others, n):
    """The best path, and of equally good ones the least, read from its end."""
    paths = every_path(logits, *others, n)
    return min(paths, key=lambda path: (-paths[path], path[::-1]))


def slopes(function, arguments, eps=1e-6):
    """The derivatives of a scalar function by central differences."""
    found = []
    for i, a in enumerate(arguments):
        slope = np.zeros(a.shape)
        for place in np.ndindex(a.shape):
            up, down = ([np.array(b) for b in arguments] for _ in range(2))
            up[i][place] += eps
            down[i][place] -= eps
            slope[place] = (function(*up) - function(*down)) / (2 * eps)
        found.append(slope)
    return found


@pytest.mark.parametrize("forbidden", [(), RULED_OUT])
def test_sums_and_the_best_path_are_those_over_all_paths(forbidden, x64):
    others = without(forbidden, A, START, END)
    found = jax.device_get(everything(outputs(PADDED, *others), jnp.asarray(TARGETS)))
    np.testing.assert_allclose(found["total"], log_partitions(LOGITS, *others), rtol=1e-12)
    shares = found["marginals"]
    np.testing.assert_allclose(shares, marginals(LOGITS, *others), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found["mode"], found["best"])
    for b, n in enumerate(LENGTHS):
        path = best_path(LOGITS[b], *others, n=n)
        assert found["best"][b].tolist() == [*path, *[0] * (T - n)]
        value = score(LOGITS[b], *others, path)
        np.testing.assert_allclose(found["score"][b], value, rtol=1e-12)
    assert shares[~VALID].max() == 0 == found["total"][3] == found["score"][3]


@pytest.mark.slow
@pytest.mark.parametrize("forbidden", [(), RULED_OUT])
def test_the_loss_and_its_gradient_are_those_over_all_paths(forbidden, x64):
    others = without(forbidden, A, START, END)
    chosen = [
        next(p for p in itertools.product((2, 1, 0), repeat=n) if score(x, *others, p) > -np.inf)
        for x, n in zip(LOGITS, LENGTHS, strict=True)
    ]
    targets = np.array([[*path, *[-100] * (T - len(path))] for path in chosen])
    weights = np.arange(1.0, B + 1)

    def by_hand(logits, *free):
        return weights @ losses(logits, *without(forbidden, *free), targets=targets)

    def loss(logits, *free):
        masks = without(forbidden, *map(np.zeros_like, others))
        scores = [jnp.where(m == 0, a, m) for a, m in zip(free, masks, strict=True)]
        found = loss_of(outputs(logits, *scores), targets)
        return weights @ found, found

    run = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
    gradients, found = jax.device_get(run(PADDED, A, START, END))
    np.testing.assert_allclose(found, losses(LOGITS, *others, targets=targets), rtol=1e-10)
    for got, want in zip(gradients, slopes(by_hand, SCORES), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    assert not gradients[0][~VALID].any() and found[3] == 0


@pytest.mark.slow
def test_marginals_and_scores_can_be_differentiated(x64):
    mix = np.random.default_rng(0).normal(size=(B, T, K))

    def by_hand(logits, *others):
        return (mix * marginals(logits, *others)).sum()

    def run(logits, *others):
        given = outputs(logits, *others)
        return (mix * CRFHead.marginals(given)).sum(), CRFHead.viterbi(given)

    def best(logits, *others):
        return run(logits, *others)[1][1].sum()

    gradients, (path, _) = jax.jit(jax.grad(run, (0, 1, 2, 3), has_aux=True))(*SCORES)
    for got, want in zip(gradients, slopes(by_hand, SCORES), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)
    gradients = jax.jit(jax.grad(best, (0, 1)))(*SCORES)
    np.testing.assert_array_equal(gradients[0], VALID[..., None] * np.eye(K)[path])
    pairs = [
        p
        for row, n in zip(path.tolist(), LENGTHS, strict=True)
        for p in itertools.pairwise(row[:n])
    ]
    np.testing.assert_array_equal(
        gradients[1], [[pairs.count((i, j)) for j in range(K)] for i in range(K)]
    )


def test_of_equally_good_paths_the_lowest_is_chosen_from_the_end():
    rng = np.random.default_rng(1)
    many, size = 60, 2
    logits = rng.integers(0, 2, (many, T, size)).astype(float)
    others = [rng.integers(0, 2, shape).astype(float) for shape in ((size, size), size, size)]
    lengths = rng.integers(0, T + 1, many)
    found = jax.jit(CRFHead.mode)(outputs(logits, *others, lengths))
    for row, x, n in zip(found.tolist(), logits, lengths, strict=True):
        assert tuple(row[:n]) == best_path(x, *others, n=n) and not any(row[n:])


def test_what_is_ruled_out_has_an_infinite_loss_and_no_gradient(x64):
    others = without(RULED_OUT, A, START, END)
    targets = np.array(
        [[2, 1, 0, 1], [0, 1, 2, 0], [1, 0, 0, 0], [0] * 4, [2, 2, 1, 1], [2, 0, 0, 0]]
    )

    def loss(logits, *others):
        found = loss_of(outputs(logits, *others), targets)
        return jnp.where(jnp.isinf(found), 0, found).sum(), found

    gradients, found = jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(LOGITS, *others)
    never = np.array([True, False, True, False, True, True])  # (1, 0), -, start, -, (2, 2), end
    np.testing.assert_array_equal(np.isposinf(found), never)
    assert not gradients[0][never].any() and gradients[0][1, :3].any()
    assert all(np.isfinite(g).all() for g in gradients)

    nothing = outputs(LOGITS, np.full((K, K), -np.inf), START, END)
    found = jax.device_get(everything(nothing, jnp.asarray(TARGETS)))
    longer = LENGTHS > 1
    np.testing.assert_array_equal(np.isneginf(found["total"]), longer)
    np.testing.assert_array_equal(np.isneginf(found["score"]), longer)
    np.testing.assert_array_equal(np.isposinf(found["loss"]), longer)
    want = VALID & ~longer[:, None]
    np.testing.assert_allclose(found["marginals"].sum(-1), want, rtol=1e-12)


def test_a_class_that_is_impossible_at_a_step_is_not_taken(x64):
    logits = np.array(LOGITS)
    logits[:, 1, 0] = -np.inf
    found = jax.device_get(everything(outputs(logits), jnp.asarray(TARGETS)))
    shares = found["marginals"]
    np.testing.assert_allclose(found["total"], log_partitions(logits, A, START, END), rtol=1e-12)
    np.testing.assert_allclose(shares, marginals(logits, A, START, END), rtol=1e-12, atol=1e-15)
    assert not shares[:, 1, 0].any()


def test_samples_have_the_probabilities_of_the_paths():
    draws = 20_000
    others = without(RULED_OUT, A, START, END)
    for n in (0, 2, 3):
        logits = np.broadcast_to(LOGITS[0], (draws, T, K))
        given = outputs(logits, *others, np.full(draws, n))
        found = np.asarray(jax.jit(CRFHead.sample)(given, key=KEY))
        assert not found[:, n:].any()
        counts = collections.Counter(map(tuple, found[:, :n].tolist()))
        paths = every_path(LOGITS[0], *others, n)
        total = logsumexp([*paths.values()])
        want = {p: draws * np.exp(s - total) for p, s in paths.items() if s > -np.inf}
        assert set(counts) <= set(want)
        excess = sum((counts[p] - c) ** 2 / c for p, c in want.items())
        assert len(want) == 1 or chi2.sf(excess, len(want) - 1) > 1e-3


SHAPES = {f"{batch} {total}": (batch, total) for batch in ((), (0,), (2, 3)) for total in (0, 1, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("shape", slow_but_for(["() 0", "(2, 3) 3"], SHAPES))
def test_any_batch_and_any_number_of_steps(shape):
    batch, total = shape
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(*batch, total, K)))
    targets = jnp.zeros((*batch, total), jnp.int32)
    others = [jnp.asarray(a, jnp.float32) for a in (A, START, END)]
    want = np.zeros(batch)
    for place in np.ndindex(batch):
        one, zeros = np.asarray(logits[place])[None], np.zeros((1, total), int)
        (want[place],) = losses(one, A, START, END, targets=zeros, lengths=[total])
    for lengths in (None, jnp.full(batch, total)):
        found = everything(CRFOutputs(logits, *others, lengths), targets)
        for name in ("mode", "best", "drawn"):
            assert found[name].shape == targets.shape
        assert found["marginals"].shape == logits.shape
        np.testing.assert_allclose(found["loss"], want, rtol=1e-5)


@pytest.mark.slow
def test_vmap_is_a_loop(x64):
    rng = np.random.default_rng(0)
    scores = [jnp.asarray(rng.normal(size=(2, *np.shape(a)))) for a in SCORES]
    lengths = jnp.asarray([LENGTHS, LENGTHS[::-1]])
    targets = jnp.asarray(rng.integers(0, K, (2, B, T)))

    got = jax.jit(jax.vmap(everything))(CRFOutputs(*scores, lengths), targets)
    for s in range(2):
        want = everything(CRFOutputs(*(a[s] for a in scores), lengths[s]), targets[s])
        for name in {*want} - {"drawn"}:
            np.testing.assert_allclose(got[name][s], want[name], rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_long_sequences_in_narrow_types(x64):
    total = 1000
    rng = np.random.default_rng(0)
    logits, targets = 3 * rng.normal(size=(1, total, K)), rng.integers(0, K, (1, total))
    want = None
    for dtype, tolerance in ((jnp.float64, 0), (jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)):
        given = CRFOutputs(*(jnp.asarray(a, dtype) for a in (logits, A, START, END)))
        found = everything(given, jnp.asarray(targets))
        want = want or found
        for name in ("loss", "total", "score"):
            assert found[name].dtype == jnp.promote_types(dtype, jnp.float32)
            np.testing.assert_allclose(found[name], want[name], rtol=tolerance)


def test_a_loss_is_never_negative():
    certain = jnp.array([[[0.0, 40.0, 0.1], [50.0, 0.3, 0.0], [0.7, 0.0, 77.7]]])
    zeros = jnp.zeros((K, K)), jnp.zeros(K), jnp.zeros(K)
    found = jax.jit(CRFHead.loss)(CRFOutputs(certain, *zeros), jnp.array([[1, 0, 2]]))
    assert 0 <= float(found[0]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_batch_may_be_split_over_devices(kind):
    lengths, scores = jnp.asarray(LENGTHS), [jnp.asarray(a, jnp.float32) for a in SCORES[1:]]
    given = jnp.asarray(LOGITS, jnp.float32), lengths, jnp.where(VALID, TARGETS, 0)

    def run(logits, lengths, targets):
        chain = CRFOutputs(logits, *scores, lengths)
        return everything.__wrapped__(chain, targets)

    want = jax.jit(run)(*given)
    mesh = jax.make_mesh((2,), ("examples",), axis_types=(kind,))
    spec = P("examples")
    with jax.set_mesh(mesh):
        split = [jax.device_put(a, jax.NamedSharding(mesh, spec)) for a in given]
        if kind == AxisType.Auto:
            run = jax.shard_map(run, in_specs=spec, out_specs=spec)
        got = jax.device_get(jax.jit(run)(*split))
    for name in {*want} - {"drawn"}:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)


# --- the head in a model ----------------------------------------------------------------------


def tagger(**options):
    return models.ManyToMany(RNN(GRU(H)), CRFHead(K, **options))


def random_params(model, xs):
    params = jax.eval_shape(model.init, KEY, xs)["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return structure.unflatten([jax.random.normal(k, a.shape) for k, a in pairs])


@pytest.mark.slow
def test_at_first_it_is_a_softmax_at_every_step():
    xs = jax.random.normal(KEY, (B, T, D))
    variables = jax.jit(tagger().init)(KEY, xs)
    assert jax.tree.map(jnp.shape, variables["params"]["head"]) == {
        "dense": {"kernel": (H, K), "bias": (K,)},
        "transitions": (K, K),
        "start": (K,),
        "end": (K,),
    }
    found = jax.jit(tagger().apply)(variables, xs, seq_lengths=LENGTHS)
    each = jax.jit(SoftmaxHead.loss)(found.logits, jnp.where(VALID, TARGETS, 0))
    got = everything(found, jnp.asarray(TARGETS))
    np.testing.assert_allclose(got["loss"], np.where(VALID, each, 0).sum(1), rtol=1e-5)
    shares = np.where(VALID[..., None], jax.nn.softmax(found.logits), 0)
    np.testing.assert_allclose(got["marginals"], shares, rtol=1e-5)
    np.testing.assert_array_equal(got["mode"], np.where(VALID, found.logits.argmax(-1), 0))


@pytest.mark.slow
def test_a_model_adds_its_parameters_and_ignores_the_padding():
    xs = jax.random.normal(KEY, (B, T, D))
    model = tagger(forbidden=[(1, 0), (None, 2)])
    params = random_params(model, xs)
    softmax = models.ManyToMany(RNN(GRU(H)), SoftmaxHead(K))
    targets = np.array([[1, 1, 2, 1], [0] * 4, [1] * 4, [0] * 4, [0, 2, 0, 0], [0, 1, 0, 0]])

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, xs, lengths, targets):
        found = model.apply({"params": params}, xs, seq_lengths=lengths)
        each = loss_of(found, targets)
        return each.sum(), (each, found.logits)

    padded = jnp.where(VALID[..., None], xs, jnp.nan)
    (_, (each, logits)), (of_params, of_xs) = run(params, padded, LENGTHS, targets)
    head = params["head"]
    variables = {"params": params | {"head": {"dense": head["dense"]}}}
    plain = jax.jit(softmax.apply)(variables, xs, seq_lengths=LENGTHS)
    np.testing.assert_allclose(logits, plain, rtol=1e-6)
    pairs = (1, 0), (None, 2)
    others = without(pairs, *(np.asarray(head[n]) for n in ("transitions", "start", "end")))
    want = losses(np.asarray(plain, float), *others, targets=targets)
    np.testing.assert_allclose(each, want, rtol=1e-4, atol=1e-5)
    assert not of_xs[~VALID].any() and of_params["head"]["transitions"][1, 0] == 0
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(of_params))

    longer = jnp.pad(padded, ((0, 0), (0, 3), (0, 0)), constant_values=jnp.nan)
    more = np.pad(targets, ((0, 0), (0, 3)), constant_values=K + 5)
    (_, (other, _)), (others, _) = run(params, longer, LENGTHS, more)
    np.testing.assert_allclose(other, each, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), others, of_params
    )


@pytest.mark.slow
def test_it_learns_what_no_step_tells_by_itself():
    """Tags that go round in a circle, of which a single one is seen."""
    total, size = 7, 4
    keys = jax.random.split(KEY, 3)
    targets = (jax.random.randint(keys[0], (64, 1), 0, size) + jnp.arange(total)) % size
    seen = jax.random.randint(keys[1], (64, 1), 0, total) == jnp.arange(total)
    xs = jnp.where(seen[..., None], jax.nn.one_hot(targets, size), 0)
    head = CRFHead(size)
    variables = head.init(keys[2], xs)
    optimizer = optax.adam(0.3)

    @jax.jit
    def train(variables):
        def step(state, _):
            def loss(v):
                return head.loss(head.apply(v, xs), targets).mean()

            variables, opt_state = state
            value, gradient = jax.value_and_grad(loss)(variables)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(variables, updates), opt_state), value

        return jax.lax.scan(step, (variables, optimizer.init(variables)), None, 100)

    (variables, _), values = train(variables)
    found = head.apply(variables, xs)
    assert values[0] > total and values[-1] < 0.2
    assert (head.mode(found) == targets).all()
    alone = (found.logits.argmax(-1) == targets).mean()
    assert alone < 0.5


# --- what BIO rules out, and wrong arguments --------------------------------------------------


@pytest.mark.slow
def test_bio_labels_rule_out_what_their_definition_does():
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-X-Y"]
    pairs = bio_forbidden(labels)
    assert len(set(pairs)) == len(pairs)

    def broken(path):
        kinds = [None, *path]
        return any(
            now.startswith("I-") and (before is None or before not in (now, f"B{now[1:]}"))
            for before, now in itertools.pairwise(kinds)
        )

    size = len(labels)
    zeros = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    others = without(pairs, *zeros)
    for path in itertools.product(range(size), repeat=3):
        ruled_out = score(np.zeros((3, size)), *others, path) == -np.inf
        assert ruled_out == broken([labels[k] for k in path])
    assert bio_forbidden(["B-x", "O"]) == ()
    head = CRFHead(size, forbidden=pairs)
    assert hash(head) == hash(CRFHead(size, forbidden=[*pairs]))
    xs = jax.random.normal(KEY, (50, T, D))
    found = jax.jit(lambda xs: head.init_with_output(KEY, xs)[0])(xs)
    got = everything(found, jnp.zeros((50, T), jnp.int32))
    for path in (*got["mode"].tolist(), *got["drawn"].tolist()):
        assert not broken([labels[k] for k in path])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: bio_forbidden(["O", "S-x"]),
            ValueError,
            "labels must be O, B-x or I-x, got 'S-x'",
        ),
        (lambda: bio_forbidden(["O", "B-"]), ValueError, "labels must be O, B-x or I-x, got 'B-'"),
        (lambda: bio_forbidden(["O", "I-x"]), ValueError, "must hold B-x if they hold I-x"),
        (lambda: bio_forbidden(["O", "O"]), ValueError, "but 'O' appears twice"),
        (lambda: CRFHead(3, forbidden=[(0, 3)]), ValueError, r"0\.\.2, .*got \(0, 3\)"),
        (lambda: CRFHead(3, forbidden=[(-1, 0)]), ValueError, r"forbidden .*got \(-1, 0\)"),
        (lambda: CRFHead(3, forbidden=[(None, None)]), ValueError, r"got \(None, None\)"),
        (
            lambda: loss_of(outputs(), np.where(VALID, 3, 0)),
            ValueError,
            r"targets must lie in 0\.\.K-1 = 0\.\.2, got 3",
        ),
        (
            lambda: loss_of(outputs(), np.where(VALID, -1, 0)),
            ValueError,
            r"targets must lie in 0\.\.K-1 = 0\.\.2, got -1",
        ),
        (
            lambda: loss_of(outputs(), np.zeros((B, T + 1), int)),
            ValueError,
            r"targets must have shape \[\*batch, T\] = \(6, 4\), got \(6, 5\)",
        ),
        (
            lambda: loss_of(outputs(), np.zeros((B, T))),
            TypeError,
            "targets must be integers, got float32",
        ),
        (
            lambda: CRFHead.mode(outputs(lengths=LENGTHS + 1)),
            ValueError,
            r"seq_lengths must lie in 0\.\.T = 0\.\.4, got 1\.\.5",
        ),
        (
            lambda: CRFHead(3).init(KEY, jnp.zeros(3)),
            ValueError,
            r"CRFHead needs inputs \[\*batch, T, H\], got shape \(3,\)",
        ),
        (
            lambda: models.ManyToOne(RNN(GRU(H)), CRFHead(K)).init(KEY, jnp.zeros((B, T, D))),
            TypeError,
            "a CRFHead answers whole sequences: it is the head of ManyToMany",
        ),
        (
            lambda: models.OneToOne(CRFHead(K)).init(KEY, jnp.zeros((B, D))),
            TypeError,
            "a CRFHead answers whole sequences",
        ),
        (
            lambda: models.OneToMany(RNN(GRU(H)), CRFHead(K), layers.Embed(K, D)).init(
                KEY, jnp.zeros((B, D)), jnp.zeros((B, T), jnp.int32)
            ),
            TypeError,
            "a CRFHead answers whole sequences",
        ),
        (
            lambda: tagger().init(KEY, (jnp.zeros((B, H)),), jnp.zeros((B, D)), method="step"),
            TypeError,
            "cannot run step by step",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, words, without_type_checks):
    with pytest.raises(error, match=words):
        call()


def test_targets_that_are_no_class_under_jit_have_no_loss():
    right, other = (np.where(VALID, TARGETS, -100) for _ in range(2))
    other[[0, 1, 4], 1] = 3, -1, 77
    found, want = (everything(outputs(), jnp.asarray(a))["loss"] for a in (other, right))
    np.testing.assert_array_equal(np.isnan(found), np.isin(np.arange(B), (0, 1, 4)))
    rest = ~np.isnan(found)
    np.testing.assert_array_equal(found[rest], want[rest])
    assert np.isfinite(want).all()
