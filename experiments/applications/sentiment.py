"""Sentiment: say whether the writer of a text is pleased, after reading it word by word.

Claim: a bidirectional recurrent network learns word vectors and the sentiment they express from
labelled texts alone, and is right far more often than the most frequent class. Many-to-one: one
network reads from the beginning, another from the end, and their last states give the answer. Rare
words are read as `<unknown>`, and in training some others at random. A logistic regression on sets
of words is hardly worse on the tweets: most of the information is in the words, not in their order.
(Schuster, Paliwal 1997; Cho et al. 2014; Iyyer et al. 2015; reviews: Maas et al. 2011.)

Metric: accuracy on the test split, which shares no story (tweets) and no film (reviews) with
training; the summary has the macro-averaged F1 too. Baseline: the most frequent class of training.
Lags count from the end of a text; to the network that reads from there, the beginning is near.

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds; `quick
run only` with fewer --steps or --seeds than the defaults.

    python experiments/applications/sentiment.py --out runs/tweets
    python experiments/applications/sentiment.py --out runs/tweets --predict "Great flight, thanks!"
    python experiments/applications/sentiment.py --source imdb_reviews --max-words 400 --steps 4000
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.datasets import batches, sentiment
from rnnjax.datasets.sentiment import tokenize
from rnnjax.datasets.vocabulary import Vocabulary

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Tell negative from positive texts, and compare with the most frequent class.

    Prints and writes summary.json: the accuracy on held-out texts beside that of the most frequent
    class, the macro-averaged F1, and examples. Draws the gradient against the lag. Saves the
    trained networks for `--predict "Great flight, thanks!"` or a file with one text per line. The
    default run takes about a minute on two CPU cores.
    """

    source: Literal[tuple(sentiment.SOURCES)] = "tweets"  # pyright: ignore
    """Tweets of mixed origin in three classes, or film reviews in two, which are downloaded."""
    network: str = "bidirectional_gru"
    features: int = 32
    embedding: int = 32
    """Length of a word vector."""
    max_words: int = 40
    """Words and punctuation marks to read of each text; the rest is ignored."""
    vocabulary_size: int = 5000
    """Size of the vocabulary: the most frequent words of the training split and two symbols."""
    word_dropout: float = 0.1
    """Probability that a word is read as unknown during training."""
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 5e-3
    """Initial step size of the Adam optimiser; it decays to zero along a cosine."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "embedding", "max_words")
        at_least(3, self, "vocabulary_size")
        if not 0 <= self.word_dropout < 1:
            raise ArgumentError(f"--word-dropout must lie in 0..1, got {self.word_dropout}")

    def make_model(self, vocabulary):
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import ManyToOne

        layer = self.make_layer(window=self.max_words)
        classes = sentiment.SOURCES[self.source].classes
        return ManyToOne(layer, SoftmaxHead(len(classes)), Embed(len(vocabulary), self.embedding))


def columns(config, vocabulary, texts):
    """Return the first words of each text as tokens, `[N, max_words]`, and their number."""
    words, lengths = vocabulary.encode_all(texts, config.max_words)
    return {"words": words, "lengths": lengths}


def make_train_step(model, optimizer, word_dropout):
    import optax

    def train_step(state, batch):
        key, own = jax.random.split(state.key)
        dropped = jax.random.bernoulli(own, word_dropout, batch["words"].shape)
        words = jnp.where(dropped, 0, batch["words"])

        def loss_fn(params):
            logits = model.apply({"params": params}, words, seq_lengths=batch["lengths"])
            return model.head.loss(logits, batch["labels"]).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1, key=key)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(model, key):
    word, lengths = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    return model.init(key, word, seq_lengths=lengths)["params"]


def measure(config, run):
    import optax

    train_texts, train_labels = sentiment.load("train", config.source)
    texts, labels = sentiment.load("test", config.source)
    train_words, test_words = ([tokenize(t) for t in part] for part in (train_texts, texts))
    vocabulary = Vocabulary.fit(train_words, size=config.vocabulary_size)  # of training alone
    train, held_out = (columns(config, vocabulary, w) for w in (train_words, test_words))
    examples = experiment.shuffled_batches(config, train | {"labels": train_labels})
    counted = sentiment.logistic_regression(train, train_labels, held_out, len(vocabulary))
    model = config.make_model(vocabulary)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.word_dropout)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params
    chances = experiment.evaluate(functools.partial(judge, model), params, held_out)  # [S, N, K]
    table = gradients(model, params, held_out | {"labels": labels})
    run.write_table("gradients", table)
    experiment.save(run, params, {"tokens": vocabulary.tokens})
    data = sentiment.SOURCES[config.source]
    return experiment.report(
        "accuracy",
        (chances.argmax(-1) == labels).mean(1),
        {"majority class": float((labels == np.bincount(train_labels).argmax()).mean())},
        higher_is_better=True,
        source=data.description,
        examples=[
            {"text": texts[i], "is": data.classes[labels[i]], "named": named(data, chances[0, i])}
            for i in batches.shuffled(len(texts), 0)[:8]
        ],
        macro_f1=[sentiment.scores(labels, found)["macro_f1"] for found in chances.argmax(-1)],
        logistic_regression=sentiment.scores(labels, counted),
        network=config.network,
        texts={"train": len(train_texts), "test": len(texts)},
        vocabulary=len(vocabulary),
        unknown_words=float(np.mean([n == 0 for t in test_words for n in vocabulary.encode(t)])),
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )


def judge(model, params, words, lengths):
    """Return the probabilities of the classes, `[B, K]`."""
    return jax.nn.softmax(model.apply({"params": params}, words, seq_lengths=lengths))


def gradients(model, params, rows):
    """Return the table of gradients of the losses of the 32 longest texts."""
    rows = experiment.select(rows, np.argsort(-rows["lengths"], kind="stable")[:32])

    def loss(logits):
        return model.head.loss(logits, jnp.asarray(rows["labels"])).sum()

    logs = experiment.log_gradients(model, params, loss, rows["words"], seq_lengths=rows["lengths"])
    return experiment.gradient_table(logs, rows["lengths"])


def show(summary):
    experiment.show_report(summary)
    print(f"Macro-averaged F1 of the network: {np.mean(summary['macro_f1']):.4g}")
    found = "accuracy {accuracy:.4g}, macro-averaged F1 {macro_f1:.4g}"
    found = found.format(**summary["logistic_regression"])
    print(f"For comparison, a logistic regression on the set of words: {found}")


def named(data, chances):
    """Return the most probable class with its probability."""
    return f"{data.classes[chances.argmax()]} ({chances.max():.2f})"


def answer(config, run, asked):
    """Yield the class of each text with its probability, or `no words`."""
    texts = [tokenize(line) for line in experiment.lines(asked)]
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    model: Any = config.make_model(vocabulary)
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    rows = columns(config, vocabulary, texts)
    every = jax.tree.map(lambda a: a[None], params)
    (chances,) = experiment.evaluate(functools.partial(judge, model), every, rows)
    for words, found in zip(texts, chances, strict=True):
        yield named(sentiment.SOURCES[config.source], found) if words else "no words"


verdict, draw = experiment.beats_baseline, experiment.draw
run = experiment.Experiment("sentiment", Config, measure, verdict, draw, show=show, answer=answer)

if __name__ == "__main__":
    run.main()
