"""Sequence classification: name an image after reading it row by row or pixel by pixel.

Claim: a recurrent network recognises an image that it reads piece by piece. Many-to-one: the last
state gives the answer. A digit is 8 steps long in rows and 64 in pixels (MNIST: 28 and 784);
`--order permuted` shuffles the pixels, in the same order for all images, so that neighbouring
pixels are far apart in time. Source: Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.2.

Metric: accuracy on the test images, a split that the source of the data defines. Baseline: the most
frequent class of the training images.

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds.

    python experiments/applications/sequence_classification.py --out runs/digits
    python experiments/applications/sequence_classification.py --out runs/digits --predict seven.png
    python experiments/applications/sequence_classification.py --source mnist --order permuted
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import experiment
from rnnjax.datasets import batches, images

import jax
import jax.numpy as jnp
import numpy as np

ORDERS = "rows", "pixels", "permuted"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Name images that are read row by row or pixel by pixel, and compare with chance.

    Prints and writes summary.json: the accuracy on held-out images beside that of the most frequent
    class, and examples. Draws the gradient against the lag. Saves the trained networks for
    `--predict FILE.png`. The default run takes about a minute on two CPU cores.
    """

    source: Literal[tuple(images.SOURCES)] = "digits"  # pyright: ignore[reportInvalidTypeForm]
    """The images: scikit-learn's small digits, or MNIST or Fashion-MNIST, which are downloaded."""
    order: Literal[ORDERS] = "pixels"  # pyright: ignore[reportInvalidTypeForm]
    """A step is a row, a pixel, or a pixel in a fixed shuffled order."""
    steps: int = 1500
    batch_size: int = 64

    def make_model(self):
        from rnnjax.layers import SoftmaxHead
        from rnnjax.models import ManyToOne

        window = images.SIZES[self.source] ** (1 if self.order == "rows" else 2)
        return ManyToOne(self.make_layer(window=window), SoftmaxHead(10))


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


def initialise(model, inputs, key):
    return model.init(key, inputs[:1])["params"]


def measure(config, run):
    import optax

    train, train_labels = images.load(config.source, "train")
    test, test_labels = images.load(config.source, "test")
    scale = {"mean": float(train.mean()), "deviation": float(train.std())}  # of training alone
    inputs, held_out = (sequences(config, pixels, scale) for pixels in (train, test))
    model = config.make_model()

    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    examples = experiment.shuffled_batches(config, {"inputs": inputs, "labels": train_labels})
    state = experiment.start(config, optimizer, functools.partial(initialise, model, inputs))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    def named(params, inputs):
        return model.apply({"params": params}, inputs).argmax(-1)

    answers = experiment.evaluate(named, params, {"inputs": held_out})  # [S, N]
    probe, labels = jnp.asarray(held_out[:32]), jnp.asarray(test_labels[:32])
    profiles = experiment.log_gradients(
        model, params, lambda logits: model.head.loss(logits, labels).sum(), probe
    )
    table = experiment.gradient_table(profiles)
    run.write_table("gradients", table)
    experiment.save(run, params, scale)
    names = np.array(images.NAMES[config.source])
    return experiment.report(
        "accuracy",
        (answers == test_labels).mean(1),
        {"majority class": float((test_labels == np.bincount(train_labels).argmax()).mean())},
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


def answer(config, run, asked):
    """Yield the name of the image in a file."""
    read = functools.partial(images.read_file, size=images.SIZES[config.source])
    pixels = experiment.read_file(asked, "an image file", read)[None]
    inputs = sequences(config, pixels, run.read_json("preprocessing.json"))
    model: Any = config.make_model()
    init = functools.partial(initialise, model, inputs)
    params = experiment.restore(run, init, members=config.seeds)
    chances = jax.nn.softmax(model.apply({"params": params}, inputs)[0])
    yield f"{images.NAMES[config.source][int(chances.argmax())]} ({float(chances.max()):.2f})"


run = experiment.Experiment(
    "sequence_classification",
    Config,
    measure,
    experiment.beats_baseline,
    experiment.draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
