"""Sequence classification: name an image after reading it row by row or pixel by pixel.

Claim: a recurrent network recognises what it has read piece by piece. Many-to-one: the last state
answers. In rows a digit is 8 steps long, in pixels 64 (MNIST: 28 and 784), and `permuted` shuffles
the pixels, one order for all images, so that what belongs together is far apart.
Source of the form: Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.2.

Metric: accuracy on the test images, chosen before training by the data's source. Baseline: the
class that is most frequent in training.

    python experiments/applications/sequence_classification.py --out runs/digits
    python experiments/applications/sequence_classification.py --out runs/digits --predict seven.png
    python experiments/applications/sequence_classification.py --source mnist --order permuted
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, images
from rnnjax.experiment import applications
from rnnjax.experiment.applications import NETWORKS, Options

ORDERS = "rows", "pixels", "permuted"


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Name images that are read row by row or pixel by pixel, and compare with chance.

    Prints and writes summary.json: the accuracy on held-out images, the majority class's beside
    it, and examples; the gradient against the lag as a figure; and the trained networks, for
    `--predict FILE.png`. The default run takes about a minute on two CPU cores.
    """

    source: Literal[tuple(images.SOURCES)] = "digits"  # pyright: ignore[reportInvalidTypeForm]
    """The images: scikit-learn's small digits, or MNIST or Fashion-MNIST, which are downloaded."""
    order: Literal[ORDERS] = "pixels"  # pyright: ignore[reportInvalidTypeForm]
    """A step is a row, a pixel, or a pixel in a fixed shuffled order."""
    network: Literal[NETWORKS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the sequence."""
    features: int = 64
    """Hidden units of each layer and direction."""
    steps: int = 1500
    batch_size: int = 64

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        self.make_model()

    def make_model(self):
        from rnnjax.layers import SoftmaxHead
        from rnnjax.models import ManyToOne

        window = images.SIZES[self.source] ** (1 if self.order == "rows" else 2)
        layer = applications.network(self.network, self.features, window=window)
        return ManyToOne(layer, SoftmaxHead(10))


def sequences(config, pixels, scale):
    """Return images `[N, size, size]` as inputs `[N, T, D]`: scaled, in the chosen order."""
    scaled = (pixels - scale["mean"]) / scale["deviation"]
    if config.order == "rows":
        return scaled
    flat = scaled.reshape(len(pixels), -1, 1)
    shuffled = batches.shuffled(flat.shape[1], 0)
    return flat[:, shuffled] if config.order == "permuted" else flat


def make_train_step(model, optimizer):
    import optax

    def train_step(state, batch):
        def loss_fn(params):
            logits = model.apply({"params": params}, batch["inputs"])
            return model.head.loss(logits, batch["labels"]).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def measure(config, run):
    import optax

    train, train_labels = images.load(config.source, "train")
    test, test_labels = images.load(config.source, "test")
    scale = {"mean": float(train.mean()), "deviation": float(train.std())}  # of training alone
    read = functools.partial(sequences, config, scale=scale)
    model, held_out = config.make_model(), {"inputs": read(test)}
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    )
    columns = {"inputs": read(train), "labels": train_labels}
    pipelines = experiment.shuffled_batches(config, columns)
    state = experiment.start(config, optimizer, functools.partial(initialise, model, read(train)))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    def answer(params, inputs):
        return model.apply({"params": params}, inputs).argmax(-1)

    answers = experiment.evaluate(answer, params, held_out)  # [S, N]
    common = np.bincount(train_labels).argmax()
    names = np.array(images.NAMES[config.source])
    probe, labels = jnp.asarray(held_out["inputs"][:32]), jnp.asarray(test_labels[:32])
    profiles = experiment.log_gradients(
        model, params, lambda logits: model.head.loss(logits, labels).sum(), probe
    )
    table = experiment.gradient_table(profiles)
    run.write_table("gradients", table)
    experiment.save(run, params, scale)
    return experiment.report(
        "accuracy",
        (answers == test_labels).mean(1),
        {"majority class": float((test_labels == common).mean())},
        higher_is_better=True,
        source=f"{images.SOURCES[config.source]}, read as {config.order}",
        examples=[
            {"image": i, "is": names[test_labels[i]], "named": names[answers[0, i]]}
            for i in range(5)
        ],
        network=config.network,
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )


def initialise(model, inputs, key):
    return model.init(key, inputs[:1])["params"]


def answer(config, run, asked):
    """Yield the name of the image in a file."""
    path = experiment.existing(asked, "an image file")
    size = images.SIZES[config.source]
    try:
        pixels = images.read_file(path, size)[None]
    except ValueError as error:
        raise ArgumentError(f"--predict: {error}") from None
    inputs = sequences(config, pixels, run.read_json("preprocessing.json"))
    model: Any = config.make_model()
    init = functools.partial(initialise, model, inputs)
    params = experiment.restore(run, init, members=config.seeds)
    chances = jax.nn.softmax(model.apply({"params": params}, inputs)[0])
    yield f"{images.NAMES[config.source][int(chances.argmax())]} ({float(chances.max()):.2f})"


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("sequence_classification", config, measured, answer)


if __name__ == "__main__":
    main(Config, run)
