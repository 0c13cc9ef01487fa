"""The mesh of members and batches: eight devices against one."""

import functools
import json
import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from rnnjax import experiment, training
from rnnjax.training import MeshShape, over_population, sharded_over_population
from rnnjax.training.mesh import arrange_devices, population_mesh

EIGHT = """
    import json, sys
    import jax, jax.numpy as jnp, numpy as np
    import rnnjax
    from rnnjax import training

    cell, (T, B, D, H) = rnnjax.Elman(features=5), (3, 64, 3, 5)

    def member(key):
        params = cell.init(key, D)
        return training.TrainState(params, (), jnp.int32(0), key)

    def step(state, xs):
        def loss_fn(params):
            return jnp.mean((rnnjax.unroll(cell, params, xs)[1].sum(-1) - xs[..., 0]) ** 2)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
        layout = jax.sharding.get_abstract_mesh().shape  # of the axes that the member sees
        metrics = {"loss": loss, "batch": jnp.int32(layout.get("batch", 1))}
        return state._replace(params=params, step=state.step + 1), metrics

    def sample(key):
        return jax.random.normal(key, (T, B, D))

    def train(members, **shares):
        states = [member(jax.random.key(s)) for s in range(members)]
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        with training.use_mesh_shape(training.MeshShape(**shares) if shares else None):
            (chunk,) = training.train_on_samples(step, state, sample, steps=3, chunk_size=3)
        return {
            "words": [a.tobytes().hex() for a in map(np.asarray, chunk.state.params)],
            "params": [np.asarray(a).tolist() for a in chunk.state.params],
            "loss": chunk.metrics["loss"].tolist(),
            "batch": int(chunk.metrics["batch"].max()),
            "devices": len(chunk.state.params[0].sharding.device_set),
        }

    def alone():
        state, losses = member(jax.random.key(2)), []
        for _ in range(3):
            key, now = jax.random.split(state.key)
            state, metrics = jax.jit(step)(state._replace(key=key), sample(now))
            losses.append(float(metrics["loss"]))
        return losses

    assert jax.device_count() == 8
    runs = [json.loads(a) for a in sys.argv[1:]]
    print(json.dumps({"alone": alone(), "runs": [train(**options) for options in runs]}))
"""
ONE = {"population": 1}
WHOLE = [
    *({"members": 4, "population": n} for n in (2, 8)),
    *({"members": 3, "population": n} for n in (2, 8)),
]
SPLIT = [
    {"members": 4, "data": 4, "population": 2},
    {"members": 3, "data": 2, "population": 2},
    {"members": 4, "data": 8},
    {"members": 3},  # without a mesh shape: two devices each, and two are left
]


@functools.cache
def on_eight():
    """The results of several meshes of eight devices, and of one device, by their options."""
    options = [{"members": 4, **ONE}, {"members": 3, **ONE}, *WHOLE, *SPLIT]
    texts = [json.dumps(o) for o in options]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(EIGHT), *texts],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    return found["alone"], dict(zip(texts, found["runs"], strict=True))


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("options", WHOLE, ids=str)
def test_the_split_of_members_over_devices_changes_no_bit(options):
    _, runs = on_eight()
    got, one = runs[json.dumps(options)], runs[json.dumps({"members": options["members"], **ONE})]
    assert (got["words"], got["loss"]) == (one["words"], one["loss"])
    assert got["batch"] == 1
    assert got["devices"] == min(options["members"], options["population"])


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("options", SPLIT, ids=str)
def test_a_split_batch_changes_only_the_order_of_sums(options):
    _, runs = on_eight()
    got, one = runs[json.dumps(options)], runs[json.dumps({"members": options["members"], **ONE})]
    assert got["batch"] == options.get("data", 2)
    np.testing.assert_allclose(got["loss"], one["loss"], rtol=1e-5)
    for a, b in zip(got["params"], one["params"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_member_of_any_mesh_is_trained_as_if_alone():
    alone, runs = on_eight()
    for run in runs.values():
        np.testing.assert_allclose(np.array(run["loss"])[:, 2], alone, rtol=1e-5)


def test_a_mesh_shape_holds_within_its_context_only():
    def layout():
        found = set()

        def look(x):
            mesh = jax.sharding.get_abstract_mesh().shape
            found.add((mesh["member"], mesh["batch"]))
            return x

        over_population(look)(np.arange(3))
        (only,) = found
        return only

    with training.use_mesh_shape(MeshShape(data=2)):
        assert layout() == (1, 2)
        with training.use_mesh_shape(MeshShape(population=2)):
            assert layout() == (2, 1)
        with training.use_mesh_shape(MeshShape()):
            assert layout() == (1, 1)
        assert layout() == (1, 2)
    assert layout() == (2, 1)


def test_an_error_ends_the_context_of_a_mesh_shape():
    with pytest.raises(KeyError), training.use_mesh_shape(MeshShape(data=2)):
        raise KeyError
    assert population_mesh(5).shape == {"member": 2, "batch": 1}


@pytest.mark.parametrize("members", [2, 3])
def test_a_function_is_traced_once(members):
    """Tracing is most of the start-up of a run whose programs are compiled already."""
    traced = []

    def function(x, y):
        traced.append(x)
        return x @ y

    x, y = np.ones((members, 3, 3), np.float32), np.full((members, 3), 2, np.float32)
    np.testing.assert_array_equal(over_population(function)(x, y), np.full((members, 3), 6))
    assert len(traced) == 1


@pytest.mark.parametrize("members", [1, 2, 3])
def test_a_sharded_tree_is_on_the_devices_of_its_population(members):
    tree = {
        "a": np.arange(3.0 * members).reshape(members, 3),
        "key": jax.random.split(jax.random.key(0), members),
    }
    placed = training.shard_population(tree)
    computed = sharded_over_population(lambda tree: tree)(tree)
    for a, b in zip(jax.tree.leaves(placed), jax.tree.leaves(computed), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        assert a.sharding.is_equivalent_to(training.population_sharding(members), a.ndim)
    assert training.gather(placed) is placed  # one process has all devices
    np.testing.assert_array_equal(placed["a"], tree["a"])


class Device:
    """A device of another machine, with what `arrange_devices` needs."""

    def __init__(self, process_index, number):
        self.process_index, self.number = process_index, number


@pytest.mark.parametrize(
    ("processes", "own", "members", "shares", "want"),
    [
        (2, 4, 16, None, (8, 1)),
        (2, 4, 3, None, (4, 2)),  # one row of devices repeats a member
        (2, 4, 1, None, (1, 8)),
        (2, 3, 4, None, (6, 1)),
        (4, 1, 3, None, (4, 1)),
        (2, 4, 3, MeshShape(population=8), (8, 1)),
        (2, 4, 3, MeshShape(population=2, data=2), (2, 2)),
        (2, 4, 3, MeshShape(data=2), (1, 2)),
    ],
)
def test_every_process_takes_part(processes, own, members, shares, want):
    devices = [Device(p, n) for n in range(own) for p in range(processes)]  # alternating
    grid = arrange_devices(devices, members, shares)
    assert grid.shape == want
    found = [(device.process_index, device.number) for device in grid.ravel()]
    assert found == [(p, n) for p in range(processes) for n in range(grid.size // processes)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("data=2", MeshShape(data=2)),
        ("population=2", MeshShape(population=2)),
        ("population=2,data=1", MeshShape(population=2, data=1)),
    ],
)
def test_mesh_shapes_are_parsed(text, want):
    assert MeshShape.parse(text) == want


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must be like data=4,population=2, got ''"),
        ("data", "must be like data=4,population=2, got 'data'"),
        ("data=0", "must be like data=4,population=2, got 'data=0'"),
        ("data=-1", "must be like data=4,population=2, got 'data=-1'"),
        ("data=1.5", "must be like data=4,population=2, got 'data=1.5'"),
        ("data=1,data=2", "must be like data=4,population=2, got 'data=1,data=2'"),
        ("data=1,", "must be like data=4,population=2, got 'data=1,'"),
        ("time=2", "has the axes data and population, got 'time'"),
        ("data=2,population=2", "data=2,population=2 needs 4 devices, there are 2"),
    ],
)
def test_wrong_mesh_shapes(text, why):
    with pytest.raises(ValueError) as error:
        MeshShape.parse(text)
    assert str(error.value) == why


def test_mesh_shapes_of_several_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="needs 1 devices, which must be a multiple of the 2 proc"):
        MeshShape.parse("data=1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--mesh data", "--mesh must be like data=4,population=2, got 'data'"),
        ("--mesh data=3", "--mesh data=3 needs 3 devices, there are 2"),
        ("--num-processes 2", "--num-processes needs --coordinator HOST:PORT"),
        ("--process-id 0", "--process-id needs --coordinator HOST:PORT"),
        ("--coordinator here", "--coordinator must be HOST:PORT or auto, got 'here'"),
        ("--coordinator a:1", "--coordinator a:1 needs the number of processes and the process id"),
        (
            "--coordinator a:1 --num-processes 2 --process-id 2",
            "--coordinator a:1 has processes 0..1, got 2",
        ),
        (
            "--coordinator auto --num-processes 2",
            "--coordinator auto sets the number of processes and the process id itself",
        ),
    ],
)
def test_wrong_arguments_are_errors_of_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.setattr(sys, "argv", ["script", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        script(lambda config, run: pytest.fail("it ran"), tmp_path)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_port_in_use_is_an_error_of_one_line(monkeypatch, capsys, tmp_path):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        hosts = f"--coordinator 127.0.0.1:{port} --num-processes 2 --process-id 0"
        monkeypatch.setattr(sys, "argv", ["script", *hosts.split()])
        with pytest.raises(SystemExit) as stop:
            script(lambda config, run: pytest.fail("it ran"), tmp_path)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: --coordinator cannot listen on port {port} here: ")
    assert message.count("\n") == 1


def test_a_mesh_reaches_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["script", "--mesh", "data=2"])
    seen = []
    script(lambda config, run: {"seen": seen.append(population_mesh(2).shape)}, tmp_path)
    assert seen == [{"member": 1, "batch": 2}]


def script(measure, folder):
    """Run an experiment that has no options of its own, with the arguments in `sys.argv`."""
    sys.argv += ["--out", str(folder / "run")]
    judge = lambda config, summary: experiment.Verdict.judge({})  # noqa: E731
    run = experiment.Experiment("mesh", experiment.RunOptions, measure, judge, lambda run: None)
    run.main()
