"""Text generation: predict the next character of unseen documents, then write some.

Claim: a recurrent network learns spelling, grammar and layout from characters alone. Many-to-many:
at every step the output is a distribution over the next character; to write, the network reads the
characters that it draws from it. Sources: Graves 2013, arXiv:1308.0850, section 2; Sutskever,
Martens, Hinton 2011, "Generating text with recurrent neural networks".

Metric: bits per character of the held-out documents, each read from its start to its end, every
character counted. Documents, not characters, are held out. Baselines: the frequencies of characters
(unigram) and of pairs (bigram) in the training documents, on the same characters. Longer n-grams
are not trivial; they are in the summary under `n_grams`.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds.

This file has more than 200 lines because scoring whole documents window by window and writing from
a prompt both carry the state on, which training does not.

    python experiments/applications/text_generation.py --out runs/topics
    python experiments/applications/text_generation.py --out runs/topics --predict "The statement "
    python experiments/applications/text_generation.py --source tiny_shakespeare --prompt "KING "
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment, networks
from rnnjax.command_line import ArgumentError, at_least, positive
from rnnjax.datasets import batches, language
from rnnjax.datasets.n_grams import n_gram_bits
from rnnjax.datasets.vocabulary import Vocabulary

END = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Learn to write from characters, and compare bits per character with those of n-grams.

    Prints and writes summary.json: the bits per character of held-out documents beside those of
    unigrams and bigrams, and examples. Writes what the networks wrote to samples.txt. Draws the
    gradient against the lag. Saves the trained networks for `--predict PROMPT`. The default run
    takes about a minute and a half on two CPU cores.
    """

    source: Literal[tuple(language.SOURCES)] = "python_topics"  # pyright: ignore
    """Python's help topics, which come with it, or Shakespeare's plays, which are downloaded."""
    features: int = 192
    embedding: int = 32
    """Length of a character's vector."""
    window: int = 80
    """Characters in a training example; in held-out documents the state is carried on."""
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-2
    """Largest step size of the Adam optimiser, reached after a tenth of the steps; it then decays
    to zero along a cosine."""
    temperature: float = 0.7
    """Temperature of sampling; below 1, probable characters become more probable. --predict uses
    that of the finished run."""
    prompt: str = "The "
    """How the samples begin."""
    length: int = 400
    """Characters to write; --predict uses that of the finished run."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "embedding", "window", "length")
        positive(self, "temperature")
        if not networks.causal(self.network):
            raise ArgumentError(
                f"--network must read forwards only, got {self.network}: it would see the answer"
            )

    def make_model(self, tokens):
        """Return the network for a vocabulary of this size."""
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import ManyToMany

        layer = self.make_layer(window=self.window)
        return ManyToMany(layer, SoftmaxHead(tokens), Embed(tokens, self.embedding))


def make_train_step(model, optimizer):
    import optax

    def train_step(state, batch):
        def loss_fn(params):
            logits = model.apply({"params": params}, batch["tokens"][:, :-1])
            return model.head.loss(logits, batch["tokens"][:, 1:]).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(model, key):
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def padded(texts, vocabulary, window):
    """Return the columns of `document_bits` for texts, `tokens` and `lengths`."""
    rows = [language.stream([text], vocabulary)[:-1] for text in texts]
    longest = max(map(len, rows)) - 1
    tokens, lengths = batches.pad(rows, 1 + window * -(-longest // window))
    return {"tokens": tokens, "lengths": lengths - 1}


def document_bits(model, window, params, tokens, lengths):
    """Return the bits of whole documents, `[B]`, read window by window; the state is carried on.

    Args:
        tokens: `[B, 1 + N]`, an end and then the document; N is a multiple of `window`.
        lengths: characters of each document, `[B]`.
    """
    apply = functools.partial(model.apply, {"params": params}, return_carry=True)

    def read(carry, start):
        part = jax.lax.dynamic_slice_in_dim(tokens, start, window + 1, axis=1)
        left = jnp.clip(lengths - start, 0, window)
        carry, logits = apply(part[:, :-1], initial_carry=carry, seq_lengths=left)
        there = jnp.arange(window) < left[:, None]
        return carry, jnp.sum(model.head.loss(logits, part[:, 1:]), axis=1, where=there)

    before, _ = apply(tokens[:, :0])
    _, nats = jax.lax.scan(read, before, jnp.arange(0, tokens.shape[1] - 1, window))
    return nats.sum(0) / math.log(2)


def n_grams(train, held_out, vocabulary, longest):
    """Return the bits per character of n-grams, n = 1 .. longest, by n."""
    train, documents = (
        [language.stream([text], vocabulary).tolist()[:-1] for text in texts]
        for texts in (train, held_out)
    )
    bits = n_gram_bits(train, documents, len(vocabulary), longest) / sum(map(len, held_out))
    return {str(n + 1): float(value) for n, value in enumerate(bits)}


@functools.partial(jax.jit, static_argnames=("model", "length"))
def continuation(model, params, tokens, lengths, last, key, temperature, *, length):
    """Return `length` tokens `[B, length]` drawn after `tokens [B, N]` and then `last [B]`."""
    variables = {"params": params}
    carry, _ = model.apply(variables, tokens, seq_lengths=lengths, return_carry=True)

    def step(carry, token):
        carry, logits = model.apply(variables, carry, token, method="step")
        return carry, logits.at[:, 0].set(-jnp.inf)  # never write the unknown character

    options = {"length": length, "end": END, "temperature": temperature}
    return decoding.sample(step, carry, last, key=key, **options)[0]


def write(config, vocabulary, params, prompt, *, seed):
    """Return what a network writes after a prompt, to the end of the document or `config.length`.

    Characters that are not in the vocabulary are read as the unknown one.
    """
    read = language.stream([prompt], vocabulary)[:-1]
    tokens, lengths = batches.pad([read[:-1]], 64 * -(-len(read) // 64))  # few shapes to compile
    drawn = continuation(
        config.make_model(len(vocabulary)),
        params,
        tokens,
        lengths,
        read[-1:],
        jax.random.key(seed),
        config.temperature,
        length=config.length,
    )
    return "".join(vocabulary.decode(drawn[0].tolist()))


def measure(config, run):
    import optax

    train, test = (list(language.load(s, config.source).values()) for s in ("train", "test"))
    vocabulary = Vocabulary.fit(train, min_count=2)  # so that training has unknown characters
    tokens, held_out = language.stream(train, vocabulary), padded(test, vocabulary, config.window)
    try:
        examples = [
            language.windows(tokens, config.window, config.batch_size, seed=seed)
            for seed in config.members
        ]
    except ValueError as error:
        raise ArgumentError(f"--window and --batch-size: {error}") from None

    model = config.make_model(len(vocabulary))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.steps // 10, config.steps
    )
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    bits = functools.partial(document_bits, model, config.window)
    characters = held_out["lengths"].sum()
    found = experiment.evaluate(bits, params, held_out).sum(1) / characters
    counted = n_grams(train, test, vocabulary, 5)
    table = gradients(config, model, params, test, vocabulary)
    run.write_table("gradients", table)
    written = [
        write(config, vocabulary, experiment.member(params, i), config.prompt, seed=seed)
        for i, seed in enumerate(config.members)
    ]
    parts = zip(config.members, written, strict=True)
    text = "\n\n".join(f"--- seed {seed}\n{config.prompt}{text}" for seed, text in parts)
    run.file("samples.txt").write_text(text + "\n", encoding="utf-8")
    experiment.save(run, params, dataclasses.asdict(vocabulary))
    return experiment.report(
        "bits per character",
        found,
        {"unigram": counted["1"], "bigram": counted["2"]},
        higher_is_better=False,
        source=language.SOURCES[config.source].description,
        examples=[{"prompt": config.prompt, "written": repr(text[:200])} for text in written],
        n_grams=counted,
        network=config.network,
        parameters=experiment.parameter_count(params),
        characters={"train": len(tokens) - len(train) - 1, "test": int(characters)},
        unknown=int(sum((row[1:] == 0).sum() for row in map(vocabulary.encode, test))),
        gradient_reach=experiment.reach(table[0]),
    )


def gradients(config, model, params, texts, vocabulary):
    """Return the table of the gradient of the last character's loss in 32 windows of texts."""
    tokens = language.stream(texts, vocabulary)
    places = np.linspace(0, len(tokens) - config.window - 1, 32).astype(int)
    windows = jnp.asarray(tokens[places[:, None] + np.arange(config.window + 1)])

    def loss(logits):
        return model.head.loss(logits[:, -1], windows[:, -1]).sum()

    profiles = experiment.log_gradients(model, params, loss, windows[:, :-1])
    return experiment.gradient_table(profiles)


def show(summary):
    experiment.show_report(summary)
    longer = [f"{bits:.3f} with n = {n}" for n, bits in summary["n_grams"].items() if int(n) > 2]
    print(f"Bits per character of longer n-grams: {', '.join(longer)}")


def answer(config, run, asked):
    """Yield each prompt with what the network writes after it."""
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    init = functools.partial(initialise, config.make_model(len(vocabulary)))
    params = experiment.restore(run, init, members=config.seeds)
    for prompt in experiment.lines(asked):
        yield prompt + write(config, vocabulary, params, prompt, seed=config.seed)


run = experiment.Experiment(
    "text_generation",
    Config,
    measure,
    experiment.beats_baseline,
    experiment.draw,
    show=show,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
