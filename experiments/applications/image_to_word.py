"""Image to word: see a picture once, then write its name letter by letter.

Claim: one vector is enough to start a sequence. One-to-many: a perceptron looks at the image, what
it says becomes the first state of a recurrent decoder, and the decoder reads its own letters: a
captioner in small. Vinyals et al. 2015, "Show and tell", arXiv:1411.4555.

Metric: the part of the held-out images whose whole word is right, every letter and the end.
Baseline: the word that is most frequent in training, whatever the image. Beside them: how many
answers are words at all, and, in the figure `context`, how much each letter depends on the image:
least where the letters before it leave no choice.

    python experiments/applications/image_to_word.py --out runs/words
    python experiments/applications/image_to_word.py --out runs/words --predict seven.png
    python experiments/applications/image_to_word.py --source fashion_mnist
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, diagnostics, experiment, training
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, images
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import applications
from rnnjax.experiment.applications import Options
from rnnjax.layers import LinearHead, SoftmaxHead, masked_mean
from rnnjax.models import OneToMany, OneToOne, shift_right

DECODERS = "elman", "lstm", "gru", "deep_gru"
END = 1


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Write the names of images letter by letter, and compare with the most frequent name.

    Prints and writes summary.json: the part of the held-out images whose whole word is right, that
    of the most frequent word beside it, and examples; the gradient against the lag and by letter
    as figures; and the trained networks, for `--predict FILE.png`. The default run takes about
    twenty seconds on two CPU cores.
    """

    source: Literal[tuple(images.SOURCES)] = "digits"  # pyright: ignore[reportInvalidTypeForm]
    """The images: scikit-learn's small digits, or MNIST or Fashion-MNIST, which are downloaded."""
    network: Literal[DECODERS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What writes the word."""
    features: int = 64
    """Hidden units of each layer, and of the perceptron that looks at the image."""
    steps: int = 1000
    batch_size: int = 64

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")

    def make_model(self, letters):
        """Return the network for a vocabulary of so many letters."""
        from rnnjax.layers import Embed

        layer = applications.network(self.network, self.features, window=1)
        return Captioner(
            OneToOne(LinearHead(self.features), hidden=(self.features,), activation_fn=nn.relu),
            OneToMany(layer, SoftmaxHead(letters), Embed(letters, self.features)),
        )


class Captioner(nn.Module):
    """A decoder that starts from what a perceptron says of an image: y ~ decoder(perceptron(x))."""

    perceptron: OneToOne
    decoder: OneToMany

    def __call__(self, pixels, previous, *, seq_lengths=None):
        """Return logits `[B, T, V]` of images `[B, D]`, given the letters before, `[B, T]`."""
        return self.decoder(self.perceptron(pixels), previous, seq_lengths=seq_lengths)

    def see(self, pixels):
        """Return what the perceptron says, `[B, C]`."""
        return self.perceptron(pixels)

    def write(self, context, previous, *, seq_lengths=None):
        """Return the decoder's logits `[B, T, V]`."""
        return self.decoder(context, previous, seq_lengths=seq_lengths)

    def start(self, pixels):
        """Return the decoder's state before the first letter."""
        return self.decoder.start(self.perceptron(pixels))

    def step(self, state, previous):
        """Return the next state and logits `[B, V]`, given the letter before, `[B]`."""
        return self.decoder.step(state, previous)


def spelling(vocabulary, names):
    """Return names as `targets [N, T]`, letters and an end, and their `lengths [N]`."""
    rows = [np.append(vocabulary.encode(name), np.int32(END)) for name in names]
    targets, lengths = batches.pad(rows)
    return {"targets": targets, "lengths": lengths}


def make_train_step(model, optimizer):
    import optax

    def train_step(state, batch):
        targets, lengths = batch["targets"], batch["lengths"]

        def loss_fn(params):
            previous = shift_right(targets, END)
            logits = model.apply({"params": params}, batch["pixels"], previous, seq_lengths=lengths)
            return masked_mean(SoftmaxHead.loss(logits, targets), lengths)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def write(model, length, params, pixels):
    """Return the letters `[B, length]` that the network finds most probable, one after another."""
    apply = functools.partial(model.apply, {"params": params})

    def step(state, letter):
        return apply(state, letter, method="step")

    state = apply(pixels, method="start")
    return decoding.greedy(step, state, END, length=length, end=END)[0]


def measure(config, run):
    import optax

    train, train_labels = images.load(config.source, "train")
    test, test_labels = images.load(config.source, "test")
    names = images.NAMES[config.source]
    words, held_out = ([names[label] for label in part] for part in (train_labels, test_labels))
    vocabulary = Vocabulary.fit(words)
    columns = {"pixels": flat(train), **spelling(vocabulary, words)}
    length = columns["targets"].shape[1]
    model = config.make_model(len(vocabulary))
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    )
    state = experiment.start(
        config, optimizer, functools.partial(initialise, model, flat(train).shape[1])
    )
    pipelines = experiment.shuffled_batches(config, columns)
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    letters = experiment.evaluate(
        functools.partial(write, model, length), params, {"pixels": flat(test)}
    )  # [S, N, T]
    written = [["".join(vocabulary.decode(row)) for row in rows.tolist()] for rows in letters]
    common = collections.Counter(words).most_common(1)[0][0]
    spelled = spelling(vocabulary, held_out)
    longest = np.flatnonzero(spelled["lengths"] == spelled["lengths"].max())[:32]
    probe = jnp.asarray(flat(test)[longest]), jnp.asarray(spelled["targets"][longest])
    table = gradients(model, params, *probe)
    run.write_table("gradients", table)
    first = (column[:128] for column in (flat(test), spelled["targets"], spelled["lengths"]))
    run.write_table("context", [by_letter(model, params, *first)])
    preprocessing = dataclasses.asdict(vocabulary) | {"length": length}
    experiment.save(run, params, preprocessing)
    return experiment.report(
        "accuracy of whole words",
        [np.mean(np.array(found) == held_out) for found in written],
        {f"most frequent word, {common}": held_out.count(common) / len(held_out)},
        higher_is_better=True,
        source=images.SOURCES[config.source],
        examples=[{"image": i, "is": held_out[i], "written": written[0][i]} for i in range(5)],
        answers_that_are_names=[float(np.mean([w in names for w in found])) for found in written],
        network=config.network,
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )


def flat(pixels):
    return pixels.reshape(len(pixels), -1)


def initialise(model, size, key):
    nothing = jnp.zeros((1, size)), jnp.zeros((1, 1), jnp.int32)
    return model.init(key, *nothing)["params"]


def gradients(model, params, pixels, targets):
    """Return the table of the gradient of the last letter's loss in words of one length."""

    def loss(logits):
        return SoftmaxHead.loss(logits[:, -1], targets[:, -1]).sum()

    previous = shift_right(targets, END)
    profiles = experiment.log_gradients(model, params, loss, pixels, previous)
    over_time = {name: rows for name, rows in profiles.items() if name.startswith("decoder/")}
    return experiment.gradient_table(over_time)


def by_letter(model, params, pixels, targets, lengths):
    """Return the part of a table: ln ||dL_t/dcontext|| by letter t, quartiles of words so long.

    L_t is the loss of letter t alone, the context what the perceptron says of the image.
    """

    def one(params, *, pixels, targets):
        variables = {"params": params}

        def losses(context):
            logits = model.apply(variables, context, shift_right(targets, END), method="write")
            return SoftmaxHead.loss(logits, targets).sum(0)  # [T]

        jacobian = jax.jacrev(losses)(model.apply(variables, pixels, method="see"))  # [T, B, C]
        return jnp.log(jnp.linalg.norm(jacobian, axis=-1))

    logs = np.asarray(training.over_population(one)(params, pixels=pixels, targets=targets))
    rows = [
        diagnostics.quartiles(logs[:, t, lengths > t].reshape(-1)) for t in range(logs.shape[1])
    ]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {"series": "loss of letter t", "letter": np.arange(1, len(rows) + 1), **columns}


def draw(run):
    """Draw the figures of every application, and how much each letter depends on the image."""
    from rnnjax import figures

    applications.draw(run)
    figure = figures.curves(
        run.read_table("context"),
        x="letter",
        series="series",
        xlabel="letter t",
        ylabel="gradient with respect to the context",
        natural_logs=True,
    )
    run.save_figure("context", figure)


def answer(config, run, asked):
    """Yield the word that the network writes about the image in a file."""
    path = experiment.existing(asked, "an image file")
    size = images.SIZES[config.source]
    try:
        pixels = flat(images.read_file(path, size)[None])
    except ValueError as error:
        raise ArgumentError(f"--predict: {error}") from None
    stored = run.read_json("preprocessing.json")
    vocabulary = Vocabulary(tuple(stored["tokens"]))
    model = config.make_model(len(vocabulary))
    init = functools.partial(initialise, model, size**2)
    params = experiment.restore(run, init, members=config.seeds)
    (letters,) = write(model, stored["length"], params, jnp.asarray(pixels)).tolist()
    yield "".join(vocabulary.decode(letters))


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("image_to_word", config, measured, answer, draw)


if __name__ == "__main__":
    main(Config, run)
