"""Text generation: predict the next character of documents never seen, then write some.

Claim: a recurrent network learns spelling, grammar and layout from characters alone. Many-to-many:
at every step it answers with a distribution over the next character, and writes by reading what it
drew. Graves 2013, arXiv:1308.0850, section 2; Sutskever, Martens, Hinton 2011, "Generating text
with recurrent neural networks".

Metric: bits per character of the held-out documents, every one read from its start to its end, each
character counted. Baselines: what the frequencies of characters (unigram) and of pairs (bigram) in
the training documents give on the same characters; longer n-grams, which are no trivial rivals,
stand beside them in `n_grams`. Documents, not characters, are held out.

    python experiments/applications/text_generation.py --out runs/topics
    python experiments/applications/text_generation.py --out runs/topics --predict "The statement "
    python experiments/applications/text_generation.py --source tiny_shakespeare --prompt "KING "
"""

import collections
import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, at_least, main, positive
from rnnjax.datasets import batches, language
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import applications
from rnnjax.experiment.applications import CAUSAL, NETWORKS, Options

END = 1


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Learn to write from characters, and compare bits per character with those of n-grams.

    Prints and writes summary.json: the bits per character of held-out documents, those of unigrams
    and bigrams beside them, and examples; what the networks wrote, samples.txt; the gradient
    against the lag as a figure; and the trained networks, for `--predict PROMPT`. The default run
    takes about a minute and a half on two CPU cores.
    """

    source: Literal[tuple(language.SOURCES)] = "python_topics"  # pyright: ignore
    """Python's help topics, which come with it, or Shakespeare's plays, which are downloaded."""
    network: Literal[NETWORKS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the text; one that reads backwards as well is refused."""
    features: int = 192
    """Hidden units of each layer."""
    embedding: int = 32
    """Numbers that stand for a character."""
    window: int = 80
    """Characters in an example of training; in the held-out documents the state goes on."""
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-2
    """The highest of Adam's, after a tenth of the steps; from there it falls along a cosine."""
    temperature: float = 0.7
    """Below 1 the probable becomes more probable; a finished run keeps its own."""
    prompt: str = "The "
    """What the samples begin with."""
    length: int = 400
    """Characters to write; a finished run keeps its own."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "embedding", "window", "length")
        positive(self, "temperature")
        if self.network not in CAUSAL:
            raise ArgumentError(
                f"--network must read forwards only, got {self.network}: it would see the answer"
            )
        self.make_model(2)

    def make_model(self, tokens):
        """Return the network for so many tokens."""
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import ManyToMany

        layer = applications.network(self.network, self.features, window=self.window)
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


def document_bits(model, window, params, tokens, lengths):
    """Return the bits of whole documents, `[B]`: windows in turn, the state goes on through them.

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


def padded(texts, vocabulary, window):
    """Return the columns of `document_bits` for texts, `tokens` and `lengths`."""
    rows = [language.stream([text], vocabulary)[:-1] for text in texts]
    longest = max(map(len, rows)) - 1
    tokens, lengths = batches.pad(rows, 1 + window * -(-longest // window))
    return {"tokens": tokens, "lengths": lengths - 1}


def n_gram_bits(train, held_out, vocabulary, longest):
    """Return the bits per character of n-grams, n = 1 .. longest, fitted on training documents.

    p_n(c | context) = (count(context c) + types(context) p_{n-1}(c | shorter)) /
    (count(context) + types(context)), from p_0 = 1 / V up: Witten, Bell 1991, "The zero-frequency
    problem", method C, interpolated. It has nothing to tune.
    """
    counts = collections.defaultdict(collections.Counter)
    for text in train:
        tokens = language.stream([text], vocabulary).tolist()[:-1]
        for place in range(1, len(tokens)):
            for n in range(min(longest, place + 1)):
                counts[tuple(tokens[place - n : place])][tokens[place]] += 1
    seen = {context: (found, found.total(), len(found)) for context, found in counts.items()}
    bits, characters = np.zeros(longest), 0
    for text in held_out:
        tokens = language.stream([text], vocabulary).tolist()[:-1]
        for place in range(1, len(tokens)):
            p = 1 / len(vocabulary)
            for n in range(longest):
                context = tuple(tokens[max(0, place - n) : place])
                if len(context) == n and context in seen:
                    found, count, types = seen[context]
                    p = (found[tokens[place]] + types * p) / (count + types)
                bits[n] -= math.log2(p)
        characters += len(text)
    return {str(n + 1): float(value) for n, value in enumerate(bits / characters)}


@functools.partial(jax.jit, static_argnames=("model", "length"))
def continuation(model, params, tokens, lengths, last, key, temperature, *, length):
    """Return `length` tokens `[B, length]` that are drawn after `tokens [B, N]` and then `last`."""
    variables = {"params": params}
    carry, _ = model.apply(variables, tokens, seq_lengths=lengths, return_carry=True)

    def step(carry, token):
        carry, logits = model.apply(variables, carry, token, method="step")
        return carry, logits.at[:, 0].set(-jnp.inf)  # the unknown character is never written

    options = {"length": length, "end": END, "temperature": temperature}
    return decoding.sample(step, carry, last, key=key, **options)[0]


def write(config, vocabulary, params, prompt, *, seed):
    """Return what a network writes after a prompt, until a document ends or it is long enough.

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
    vocabulary = Vocabulary.fit(train, min_count=2)  # so that the unknown is met in training
    tokens, held_out = language.stream(train, vocabulary), padded(test, vocabulary, config.window)
    try:
        pipelines = [
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
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    bits = functools.partial(document_bits, model, config.window)
    characters = held_out["lengths"].sum()
    found = experiment.evaluate(bits, params, held_out).sum(1) / characters
    n_grams = n_gram_bits(train, test, vocabulary, 5)
    longer = ", ".join(f"{bits:.3f} with n = {n}" for n, bits in n_grams.items() if int(n) > 2)
    print(f"Bits per character of longer n-grams: {longer}")
    run.write_table("gradients", table := gradients(config, model, params, test, vocabulary))
    written = [
        write(
            config, vocabulary, jax.tree.map(lambda p, i=i: p[i], params), config.prompt, seed=seed
        )
        for i, seed in enumerate(config.members)
    ]
    parts = zip(config.members, written, strict=True)
    text = "\n\n".join(f"--- seed {seed}\n{config.prompt}{text}" for seed, text in parts)
    run.file("samples.txt").write_text(text + "\n", encoding="utf-8")
    experiment.save(run, params, dataclasses.asdict(vocabulary))
    return experiment.report(
        "bits per character",
        found,
        {"unigram": n_grams["1"], "bigram": n_grams["2"]},
        higher_is_better=False,
        source=language.SOURCES[config.source].description,
        examples=[{"prompt": config.prompt, "written": repr(text[:200])} for text in written],
        n_grams=n_grams,
        network=config.network,
        parameters=experiment.parameter_count(params),
        characters={"train": len(tokens) - len(train) - 1, "test": int(characters)},
        unknown=int(sum((row[1:] == 0).sum() for row in map(vocabulary.encode, test))),
        gradient_reach=experiment.reach(table[0]),
    )


def initialise(model, key):
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def gradients(config, model, params, texts, vocabulary):
    """Return the table of the gradient of the last character's loss in 32 windows of texts."""
    tokens = language.stream(texts, vocabulary)
    places = np.linspace(0, len(tokens) - config.window - 1, 32).astype(int)
    windows = jnp.asarray(tokens[places[:, None] + np.arange(config.window + 1)])

    def loss(logits):
        return model.head.loss(logits[:, -1], windows[:, -1]).sum()

    return experiment.gradient_table(experiment.log_gradients(model, params, loss, windows[:, :-1]))


def answer(config, run, asked):
    """Yield each prompt with what the network writes after it."""
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    model = config.make_model(len(vocabulary))
    init = functools.partial(initialise, model)
    params = experiment.restore(run, init, members=config.seeds)
    for prompt in experiment.lines(asked):
        yield prompt + write(config, vocabulary, params, prompt, seed=config.seed)


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("text_generation", config, measured, answer)


if __name__ == "__main__":
    main(Config, run)
