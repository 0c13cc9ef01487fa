"""Image to word: see an image once, then write its name letter by letter.

Claim: one vector is enough to start a sequence. One-to-many: a perceptron reads the image, its
output becomes the first state of a recurrent decoder, and the decoder reads the letters that it has
written: a small captioner. Source: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555.

Metric: the fraction of held-out images whose whole word is right, every letter and the end.
Baseline: the most frequent word of the training images, whatever the image. The figure `context`
shows how much each letter depends on the image: least where the previous letters leave no choice.

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds; `quick
run only` with fewer --steps or --seeds than the defaults.

    python experiments/applications/image_to_word.py --out runs/words
    python experiments/applications/image_to_word.py --out runs/words --predict seven.png
    python experiments/applications/image_to_word.py --source fashion_mnist
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

from rnnjax import decoding, experiment, training
from rnnjax.datasets import images
from rnnjax.datasets.vocabulary import Vocabulary

import jax
import jax.numpy as jnp
import numpy as np

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
        from rnnjax.layers import Embed, LinearHead, SoftmaxHead
        from rnnjax.models import Captioner, OneToMany, OneToOne

        head, embed = LinearHead(self.features), Embed(letters, self.features)
        return Captioner(
            OneToOne(head, hidden=(self.features,), activation_fn=jax.nn.relu),
            OneToMany(self.make_layer(), SoftmaxHead(letters), embed),
        )


def load(source, split):
    """Return the images of a split, `[N, pixels]`, and their names."""
    pixels, labels = images.load(source, split)
    return pixels.reshape(len(pixels), -1), [images.NAMES[source][label] for label in labels]


def spelling(vocabulary, names):
    """Return names as letters and an end, `targets [N, T]`, the `previous` ones, and `lengths`."""
    targets, lengths = vocabulary.encode_all(names, ending=True)
    previous = np.insert(targets[:, :-1], 0, END, axis=1)
    return {"previous": previous, "targets": targets, "lengths": lengths}


def make_train_step(model, optimizer):
    from rnnjax.layers import masked_mean

    import optax

    def train_step(state, batch):
        read, lengths = (batch["pixels"], batch["previous"]), batch["lengths"]

        def loss_fn(params):
            logits = model.apply({"params": params}, *read, seq_lengths=lengths)
            return masked_mean(model.decoder.head.loss(logits, batch["targets"]), lengths)

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
    step = functools.partial(model.apply, {"params": params}, method="step")
    state = model.apply({"params": params}, pixels, method="start")
    return decoding.greedy(step, state, END, length=length, end=END)[0]


def measure(config, run):
    import optax

    (train, words), (test, held_out) = (load(config.source, split) for split in ("train", "test"))
    vocabulary, names = Vocabulary.fit(words), set(images.NAMES[config.source])
    columns = {"pixels": train, **spelling(vocabulary, words)}
    length = columns["targets"].shape[1]
    model = config.make_model(len(vocabulary))
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    init = functools.partial(initialise, model, train.shape[1])
    state = experiment.start(config, optimizer, init)
    step, examples = make_train_step(model, optimizer), experiment.shuffled_batches(config, columns)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params
    letters = experiment.evaluate(functools.partial(write, model, length), params, {"pixels": test})
    written = [["".join(vocabulary.decode(row)) for row in rows.tolist()] for rows in letters]
    common = collections.Counter(words).most_common(1)[0][0]
    spelled = {"pixels": test, **spelling(vocabulary, held_out)}
    longest = np.flatnonzero(spelled["lengths"] == spelled["lengths"].max())[:32]
    table = gradients(model, params, **experiment.select(spelled, longest))
    run.write_table("gradients", table)
    run.write_table("context", [by_letter(model, params, **experiment.select(spelled, slice(128)))])
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


def gradients(model, params, pixels, previous, targets, lengths):
    """Return the table of the gradient of the last letter's loss in words of one length."""

    def loss(logits):
        return model.decoder.head.loss(logits[:, -1], jnp.asarray(targets[:, -1])).sum()

    logs = experiment.log_gradients(model, params, loss, jnp.asarray(pixels), jnp.asarray(previous))
    over_time = {name: rows for name, rows in logs.items() if name.startswith("decoder/")}
    return experiment.gradient_table(over_time, lengths)


def by_letter(model, params, lengths, **read):
    """Return the part of a table: ln ||dL_t/dcontext||, L_t the loss of letter t alone."""

    def one(params, *, pixels, previous, targets):
        variables = {"params": params}

        def losses(context):
            logits = model.apply(variables, context, previous, method="decode")
            return model.decoder.head.loss(logits, targets).sum(0)  # [T]

        jacobian = jax.jacrev(losses)(model.apply(variables, pixels, method="context"))  # [T, B, C]
        return jnp.log(jnp.linalg.norm(jacobian, axis=-1))

    logs = training.over_population(one)(params, **read)
    return {"series": "loss of letter t", **experiment.step_band("letter", logs, lengths)}


def draw(run):
    """Draw the figures of every application, and how much each letter depends on the image."""
    experiment.draw(run)
    labels: Any = {"xlabel": "letter t", "ylabel": "gradient with respect to the context"}
    experiment.draw_curves(run, "context", "letter", "series", natural_logs=True, **labels)


def answer(config, run, asked):
    """Yield the word that the network writes about the image in a file."""
    size = images.SIZES[config.source]
    read = functools.partial(images.read_file, size=size)
    pixels = experiment.read_file(asked, "an image file", read).reshape(1, -1)
    stored = run.read_json("preprocessing.json")
    vocabulary = Vocabulary(tuple(stored["tokens"]))
    model: Any = config.make_model(len(vocabulary))
    init = functools.partial(initialise, model, size**2)
    params = experiment.restore(run, init, members=config.seeds)
    (letters,) = write(model, stored["length"], params, jnp.asarray(pixels)).tolist()
    yield "".join(vocabulary.decode(letters))


verdict, show = experiment.beats_baseline, experiment.show_report
run = experiment.Experiment(
    "image_to_word", Config, measure, verdict, draw, show=show, answer=answer
)

if __name__ == "__main__":
    run.main()
