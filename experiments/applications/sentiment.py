"""Sentiment: say of a text whether its writer is pleased, after reading it word by word.

Claim: a bidirectional recurrent network learns word vectors and what they say of an opinion from
labelled texts alone, and is right far more often than who always names the most frequent class.
Many-to-one: one network reads from the beginning, another from the end, and their last states
answer. Words that are rare in training are one word, `<unknown>`; in training some words are read
so at random. Beside it stands a logistic regression on the set of a text's words, which knows no
order: on the tweets the networks are hardly better, so most is said by which words there are.
Sources: Schuster, Paliwal 1997; Cho et al. 2014, arXiv:1406.1078; for the dropped words Iyyer et
al. 2015; for the reviews Maas et al. 2011.

Metric: accuracy on the test split, which shares no story (tweets) and no film (reviews) with
training; the mean over classes of F1 stands in the summary too. Baseline: the class that is most
frequent in training.
The gradient is that of a text's own loss, with lags from its end: to the network that reads from
the end, the beginning is near.

    python experiments/applications/sentiment.py --out runs/tweets
    python experiments/applications/sentiment.py --out runs/tweets --predict "Great flight, thanks!"
    python experiments/applications/sentiment.py --source imdb_reviews --max-words 400 --steps 4000
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, sentiment
from rnnjax.datasets.sentiment import tokenize
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import applications
from rnnjax.experiment.applications import NETWORKS, Options


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Tell negative from positive texts, and compare with the most frequent class.

    Prints and writes summary.json: the accuracy on held-out texts, the majority class's beside it,
    the macro-averaged F1 and examples; the gradient against the lag as a figure; and the trained
    networks, for `--predict "Great flight, thanks!"` or a file, one text a line. The default run
    takes about a minute on two CPU cores.
    """

    source: Literal[tuple(sentiment.SOURCES)] = "tweets"  # pyright: ignore
    """Tweets of mixed origin in three classes, or film reviews in two, which are downloaded."""
    network: Literal[NETWORKS] = "bidirectional_gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the text."""
    features: int = 32
    """Hidden units of each layer and direction."""
    embedding: int = 32
    """Length of a word's vector."""
    max_words: int = 40
    """Of a longer text only so many words and punctuation marks, its first ones, are read."""
    vocabulary_size: int = 5000
    """The most frequent words of the training split that are known; two places are taken."""
    word_dropout: float = 0.1
    """The share of words that are read as unknown in training."""
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 5e-3
    """Of Adam at first; it falls to zero along a cosine."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "embedding", "max_words")
        at_least(3, self, "vocabulary_size")
        if not 0 <= self.word_dropout < 1:
            raise ArgumentError(f"--word-dropout must lie in 0..1, got {self.word_dropout}")
        self.make_model(self.vocabulary_size)

    def make_model(self, size):
        """Return the model for a vocabulary of this size."""
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import ManyToOne

        layer = applications.network(self.network, self.features, window=self.max_words)
        classes = sentiment.SOURCES[self.source].classes
        return ManyToOne(layer, SoftmaxHead(len(classes)), Embed(size, self.embedding))


def columns(config, vocabulary, texts):
    """Return the numbers of the texts' first words, `[N, max_words]`, and how many they are."""
    words, lengths = batches.pad([vocabulary.encode(t) for t in texts], config.max_words)
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
    word = jnp.zeros((1, 1), jnp.int32)
    return model.init(key, word, seq_lengths=jnp.ones(1, jnp.int32))["params"]


def measure(config, run):
    import optax

    train_texts, train_labels = sentiment.load("train", config.source)
    texts, labels = sentiment.load("test", config.source)
    spoken, said = [tokenize(t) for t in train_texts], [tokenize(t) for t in texts]
    vocabulary = Vocabulary.fit(spoken, size=config.vocabulary_size)  # of training alone
    train, held_out = (columns(config, vocabulary, tokens) for tokens in (spoken, said))
    pipelines = experiment.shuffled_batches(config, train | {"labels": train_labels})
    # Before the training, which takes longer: it may be that scikit-learn is missing.
    counted = logistic_regression(train, train_labels, held_out, len(vocabulary))
    model = config.make_model(len(vocabulary))
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.word_dropout)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    chances = experiment.evaluate(functools.partial(judge, model), params, held_out)  # [S, N, K]
    answers = chances.argmax(-1)
    table = gradients(model, params, held_out, labels)
    run.write_table("gradients", table)
    experiment.save(run, params, {"tokens": vocabulary.tokens})
    source = sentiment.SOURCES[config.source]
    common = np.bincount(train_labels).argmax()
    summary = experiment.report(
        "accuracy",
        (answers == labels).mean(1),
        {"majority class": float((labels == common).mean())},
        higher_is_better=True,
        source=source.description,
        examples=[
            {
                "text": texts[i],
                "is": source.classes[labels[i]],
                "named": f"{source.classes[answers[0, i]]} ({chances[0, i].max():.2f})",
            }
            for i in batches.shuffled(len(texts), 0)[:8]
        ],
        macro_f1=[macro_f1(labels, found) for found in answers],
        logistic_regression={
            "accuracy": float((counted == labels).mean()),
            "macro_f1": macro_f1(labels, counted),
        },
        network=config.network,
        texts={"train": len(train_texts), "test": len(texts)},
        vocabulary=len(vocabulary),
        unknown_words=float(np.mean([n == 0 for t in said for n in vocabulary.encode(t)])),
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )
    other = summary["logistic_regression"]
    print(f"Macro-averaged F1 of the network: {np.mean(summary['macro_f1']):.4g}")
    print(
        "For comparison, a logistic regression on the set of words: accuracy "
        f"{other['accuracy']:.4g}, macro-averaged F1 {other['macro_f1']:.4g}"
    )
    return summary


def judge(model, params, words, lengths):
    """Return the probabilities of the classes, `[B, K]`."""
    return jax.nn.softmax(model.apply({"params": params}, words, seq_lengths=lengths))


def logistic_regression(train, labels, held_out, size):
    """Return the classes that a logistic regression on sets of words gives held-out texts."""
    from scipy.sparse import csr_array

    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the networks are compared with scikit-learn's logistic regression, which cannot be "
            f"imported ({error.name} is missing): pip install 'rnnjax[data]'",
            name=error.name,
        ) from None

    def sets(rows):
        read = np.arange(rows["words"].shape[1]) < rows["lengths"][:, None]
        entries = np.ones(read.sum()), (np.nonzero(read)[0], rows["words"][read])
        table = csr_array(entries, (len(read), size))
        table.data[:] = 1  # whether a word is there, not how often
        return table

    regression = LogisticRegression(C=0.3, solver="newton-cg")  # C chosen on validation tweets
    return regression.fit(sets(train), labels).predict(sets(held_out))


def macro_f1(labels, answers):
    """Return the mean over the labels' classes of F1 = 2 TP / (2 TP + FP + FN)."""
    scores = []
    for name in np.unique(labels):
        true, named = labels == name, answers == name
        scores.append(2 * (true & named).sum() / (true.sum() + named.sum()))
    return float(np.mean(scores))


def gradients(model, params, rows, labels, count=32):
    """Return the table of gradients of the losses of the longest texts."""
    longest = np.argsort(-rows["lengths"], kind="stable")[:count]
    words, lengths, labels = (
        jnp.asarray(column[longest]) for column in (rows["words"], rows["lengths"], labels)
    )
    profiles = experiment.log_gradients(
        model,
        params,
        lambda logits: model.head.loss(logits, labels).sum(),
        words,
        seq_lengths=lengths,
    )
    return experiment.gradient_table(profiles, lengths)


def answer(config, run, asked):
    """Yield the class of each text with its probability; of one without words, that it has none."""
    texts = [tokenize(line) for line in experiment.lines(asked)]
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    model = config.make_model(len(vocabulary))
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    rows = columns(config, vocabulary, texts)
    every = jax.tree.map(lambda a: a[None], params)
    (chances,) = experiment.evaluate(functools.partial(judge, model), every, rows)
    for words, found in zip(texts, chances, strict=True):
        name = sentiment.SOURCES[config.source].classes[found.argmax()]
        yield f"{name} ({found.max():.2f})" if words else "no words"


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("sentiment", config, measured, answer)


if __name__ == "__main__":
    main(Config, run)
