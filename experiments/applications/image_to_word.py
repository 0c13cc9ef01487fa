"""Image to word: see an image once, then write its name letter by letter.

Claim: one vector is enough to start a sequence. One-to-many: a perceptron reads the image, its
output becomes the first state of a recurrent decoder, and the decoder reads the letters that it has
written: a small captioner. Source: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555.

Metric: the fraction of held-out images whose whole word is right, every letter and the end.
Baseline: the most frequent word of the training images, whatever the image. The summary also has
the fraction of answers that are names at all, and the figure `context` shows how much each letter
depends on the image: least where the previous letters leave no choice.

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds.

This file has more than 200 lines because it also measures how each letter depends on the image,
which the gradient over time does not show.

    python experiments/applications/image_to_word.py --out runs/words
    python experiments/applications/image_to_word.py --out runs/words --predict seven.png
    python experiments/applications/image_to_word.py --source fashion_mnist
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, diagnostics, experiment, training
from rnnjax.datasets import batches, images
from rnnjax.datasets.vocabulary import Vocabulary

END = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.WriterOptions):
    """Write the names of images letter by letter, and compare with the most frequent name.

    Prints and writes summary.json: the fraction of held-out images whose whole word is right beside
    that of the most frequent word, and examples. Draws the gradient against the lag and by letter.
    Saves the trained networks for `--predict FILE.png`. The default run takes about twenty seconds
    on two CPU cores.
    """

    source: Literal[tuple(images.SOURCES)] = "digits"  # pyright: ignore[reportInvalidTypeForm]
    """The images: scikit-learn's small digits, or MNIST or Fashion-MNIST, which are downloaded."""
    features: int = 64
    """Hidden units of each layer, and of the perceptron that reads the image."""
    steps: int = 1000
    batch_size: int = 64

    def make_model(self, letters):
        """Return the network for a vocabulary of this many letters."""
        from rnnjax.layers import Embed, LinearHead, SoftmaxHead
        from rnnjax.models import Captioner, OneToMany, OneToOne

        head, embed = LinearHead(self.features), Embed(letters, self.features)
        return Captioner(
            OneToOne(head, hidden=(self.features,), activation_fn=jax.nn.relu),
            OneToMany(self.make_layer(), SoftmaxHead(letters), embed),
        )


def flat(pixels):
    return pixels.reshape(len(pixels), -1)


def spelling(vocabulary, names):
    """Return names as `targets [N, T]`, letters and an end, and their `lengths [N]`."""
    rows = [np.append(vocabulary.encode(name), np.int32(END)) for name in names]
    targets, lengths = batches.pad(rows)
    return {"targets": targets, "lengths": lengths}


def make_train_step(model, optimizer):
    import optax

    from rnnjax.layers import SoftmaxHead, masked_mean
    from rnnjax.models import shift_right

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


def initialise(model, size, key):
    return model.init(key, jnp.zeros((1, size)), jnp.zeros((1, 1), jnp.int32))["params"]


def write(model, length, params, pixels):
    """Return the letters `[B, length]`: at each step the most probable one."""
    apply = functools.partial(model.apply, {"params": params})
    step = functools.partial(apply, method="step")
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

    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    init = functools.partial(initialise, model, flat(train).shape[1])
    state = experiment.start(config, optimizer, init)
    step, examples = make_train_step(model, optimizer), experiment.shuffled_batches(config, columns)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    writing = functools.partial(write, model, length)
    letters = experiment.evaluate(writing, params, {"pixels": flat(test)})  # [S, N, T]
    written = [["".join(vocabulary.decode(row)) for row in rows.tolist()] for rows in letters]
    common = collections.Counter(words).most_common(1)[0][0]
    spelled = spelling(vocabulary, held_out)
    longest = np.flatnonzero(spelled["lengths"] == spelled["lengths"].max())[:32]
    probe = jnp.asarray(flat(test)[longest]), jnp.asarray(spelled["targets"][longest])
    table = gradients(model, params, *probe)
    run.write_table("gradients", table)
    first = (column[:128] for column in (flat(test), spelled["targets"], spelled["lengths"]))
    run.write_table("context", [by_letter(model, params, *first)])
    experiment.save(run, params, dataclasses.asdict(vocabulary) | {"length": length})
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


def gradients(model, params, pixels, targets):
    """Return the table of the gradient of the last letter's loss in words of one length."""

    from rnnjax.layers import SoftmaxHead
    from rnnjax.models import shift_right

    def loss(logits):
        return SoftmaxHead.loss(logits[:, -1], targets[:, -1]).sum()

    previous = shift_right(targets, END)
    profiles = experiment.log_gradients(model, params, loss, pixels, previous)
    over_time = {name: rows for name, rows in profiles.items() if name.startswith("decoder/")}
    return experiment.gradient_table(over_time)


def by_letter(model, params, pixels, targets, lengths):
    """Return the part of a table: ln ||dL_t/dcontext||, over the words that have a letter t.

    L_t is the loss of letter t alone; the quartiles are over words and members.
    """

    from rnnjax.layers import SoftmaxHead
    from rnnjax.models import shift_right

    def one(params, *, pixels, targets):
        variables = {"params": params}

        def losses(context):
            logits = model.apply(variables, context, shift_right(targets, END), method="decode")
            return SoftmaxHead.loss(logits, targets).sum(0)  # [T]

        jacobian = jax.jacrev(losses)(model.apply(variables, pixels, method="context"))  # [T, B, C]
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

    experiment.draw(run)
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
    size = images.SIZES[config.source]
    read = functools.partial(images.read_file, size=size)
    pixels = flat(experiment.read_file(asked, "an image file", read)[None])
    stored = run.read_json("preprocessing.json")
    vocabulary = Vocabulary(tuple(stored["tokens"]))
    model: Any = config.make_model(len(vocabulary))
    init = functools.partial(initialise, model, size**2)
    params = experiment.restore(run, init, members=config.seeds)
    (letters,) = write(model, stored["length"], params, jnp.asarray(pixels)).tolist()
    yield "".join(vocabulary.decode(letters))


run = experiment.Experiment(
    "image_to_word",
    Config,
    measure,
    experiment.beats_baseline,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
