"""Text generation: predict the next character of unseen documents, then write some.

Claim: a recurrent network learns spelling, grammar and layout from characters alone. Many-to-many:
at every step the output is a distribution over the next character; to write, the network reads the
characters that it draws from it. Sources: Graves 2013, arXiv:1308.0850, section 2; Sutskever,
Martens, Hinton 2011, "Generating text with recurrent neural networks".

Metric: bits per character of the held-out documents, each read from its start to its end, every
character counted. Documents, not characters, are held out. Baselines: the frequencies of characters
(unigram) and of pairs (bigram) in the training documents, on the same characters. Longer n-grams
are not trivial; they are in the summary under `n_grams`.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds;
`quick run only` if --steps or --seeds is below its default.

    python experiments/applications/text_generation.py --out runs/topics
    python experiments/applications/text_generation.py --out runs/topics --predict "The statement "
    python experiments/applications/text_generation.py --source tiny_shakespeare --prompt "KING "
"""

import dataclasses
import functools
import math
from typing import Literal

from rnnjax import decoding, experiment
from rnnjax.command_line import as_argument_error, at_least, positive
from rnnjax.datasets import language
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import beats_baseline

import jax
import jax.numpy as jnp

UNKNOWN, END = 0, 1  # of `Vocabulary`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.CausalOptions):
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
    """Temperature of sampling; below 1, probable characters become more probable."""
    top_p: float = 1.0
    """Draw from the fewest characters that have this probability together. --predict uses this and
    the temperature of the finished run."""
    prompt: str = "The "
    """How the samples begin."""
    length: int = 400
    """Characters to write; --predict uses that of the finished run."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "embedding", "window", "length")
        positive(self, "temperature")
        positive(self, "top_p", most=1)

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


def document_bits(model, window, params, tokens, lengths):
    """Return the bits of documents `[B]`, read window by window with the state carried on."""
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


def write(config, vocabulary, params, prompt, *, seed):
    """Return what a network writes after a prompt, at most `config.length` characters."""
    model, key = config.make_model(len(vocabulary)), jax.random.key(seed)
    read = language.stream([prompt], vocabulary)[:-1]  # an end, and the prompt
    options = {"length": config.length, "temperature": config.temperature, "top_p": config.top_p}
    drawn = decoding.sample_after(model, params, read, key, end=END, never=UNKNOWN, **options)
    return "".join(vocabulary.decode(drawn.tolist()))


def measure(config, run):
    import optax

    train, test = (list(language.load(s, config.source).values()) for s in ("train", "test"))
    vocabulary = Vocabulary.fit(train, min_count=2)  # so that training has unknown characters
    tokens = language.stream(train, vocabulary)
    with as_argument_error("--window and --batch-size"):
        cut = functools.partial(language.windows, tokens, config.window, config.batch_size)
        examples = [cut(seed=seed) for seed in config.members]
    model = config.make_model(len(vocabulary))
    warmup = config.steps // 10
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    held_out = language.whole_documents(test, vocabulary, config.window)
    characters = held_out["lengths"].sum()
    bits = functools.partial(document_bits, model, config.window)
    found = experiment.evaluate(bits, params, held_out).sum(1) / characters
    counted = language.bits_per_character(train, test, vocabulary, 5)
    probe = language.spread_windows(language.stream(test, vocabulary), config.window, 32)
    # The gradient is that of the last character's loss.
    table = experiment.loss_gradients(model, params, probe[:, -1], probe[:, :-1], steps=-1)
    run.write_table("gradients", table)
    written = {
        seed: write(config, vocabulary, experiment.member(params, i), config.prompt, seed=seed)
        for i, seed in enumerate(config.members)
    }
    samples = [f"--- seed {seed}\n{config.prompt}{text}" for seed, text in written.items()]
    run.file("samples.txt").write_text("\n\n".join(samples) + "\n", encoding="utf-8")
    experiment.save(run, params, dataclasses.asdict(vocabulary))
    return experiment.report(
        "bits per character",
        found,
        {"unigram": counted["1"], "bigram": counted["2"]},
        higher_is_better=False,
        source=language.SOURCES[config.source].description,
        examples=[{"prompt": config.prompt, "written": repr(t[:200])} for t in written.values()],
        n_grams=counted,
        network=config.network,
        parameters=experiment.parameter_count(params),
        characters={"train": len(tokens) - len(train) - 1, "test": int(characters)},
        unknown=int(sum((row[1:] == 0).sum() for row in map(vocabulary.encode, test))),
        gradient_reach=experiment.reach(table[0]),
    )


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
    "text_generation", Config, measure, beats_baseline, experiment.draw, show=show, answer=answer
)

if __name__ == "__main__":
    run.main()
