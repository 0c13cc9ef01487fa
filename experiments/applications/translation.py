"""Translation: read a sentence, then write it in another language.

Claim: an encoder-decoder with attention learns to translate from pairs of sentences alone. A
recurrent network (or another) reads the source. A second one starts from the first one's final
state, writes the translation word by word, and attends to all of the source before each word. Words
that are rare in training are read as `<unknown>`; where the decoder writes it, the source word with
the largest attention takes its place, which is right for names and placeholders.
Sources: Sutskever, Vinyals, Le 2014, arXiv:1409.3215; Bahdanau, Cho, Bengio 2015, arXiv:1409.0473;
the attention and the unknown words: Luong, Pham, Manning 2015, arXiv:1508.04025, and Luong,
Sutskever, Le, Vinyals, Zaremba 2015, arXiv:1410.8206; word dropout: Iyyer et al. 2015.

Metric: BLEU of the whole test split (sacrebleu, lower case, one reference); the summary has chrF
and the fraction of exact matches too. Baselines: the unchanged source, and the translation of the
training sentence that shares most words with it (a translation memory).
The gradient is that of the last word's loss: in the decoder with lags from that word, in the
encoder with lags from the end of the source.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds;
`quick run only` if --steps or --seeds is below its default.

This file has more than 200 lines because there are two networks and two vocabularies: each has its
options, each language its preparation, and the gradient is measured in both.

    python experiments/applications/translation.py --out runs/french
    python experiments/applications/translation.py --out runs/french --predict "Open the file"
    python experiments/applications/translation.py --source tatoeba --max-words 20
    python experiments/applications/translation.py --source ted --steps 20000 --max-words 40
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, as_argument_error, at_least
from rnnjax.datasets import batches, translation
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import beats_baseline, show_report

import jax
import jax.numpy as jnp
import numpy as np

START = END = 1  # of `Vocabulary`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.ApplicationOptions):
    """Translate sentences with an encoder-decoder, and compare with copying the source.

    Prints and writes summary.json: BLEU on held-out sentences beside the baselines, chrF, exact
    matches and examples. Draws the gradient against the lag, and the attention. Saves the trained
    networks for `--predict "Open the file"`. The default run takes about a minute on two CPU cores.
    """

    source: Literal[tuple(translation.SOURCES)] = "jupyterlab"  # pyright: ignore
    """The pairs: a user interface in English and French, Tatoeba in the same, or TED talks in
    Portuguese and English; the last two are downloaded."""
    encoder: str = "bidirectional_gru"
    """The network that reads the source: tcn, transformer, elman, lstm, gru or a cell of your own,
    also after deep_, bidirectional_, deep_bidirectional_ or residual_."""
    decoder: str = "gru"
    """The network that writes the translation: elman, lstm, gru or a cell of your own, also after
    deep_."""
    features: int = 96
    """Hidden units of each layer and direction."""
    embedding: int = 96
    """Length of a word vector, in both languages."""
    max_words: int = 12
    """Leave out pairs with more words and punctuation marks than this on either side."""
    min_count: int = 2
    """Words that occur less often in the training split are unknown."""
    word_dropout: float = 0.2
    """Probability that a word, in either language, is read as unknown during training."""
    beam: int = 4
    """Hypotheses that the beam search keeps."""
    steps: int = 700
    batch_size: int = 64
    learning_rate: float = 5e-3
    """Initial step size of the Adam optimiser; it decays to zero along a cosine."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "embedding", "max_words", "min_count", "beam")
        if not 0 <= self.word_dropout < 1:
            raise ArgumentError(f"--word-dropout must lie in 0..1, got {self.word_dropout}")
        self.make_model(2, 2)

    def make_model(self, source_size, target_size):
        """Return the model for vocabularies of these sizes."""
        from rnnjax.layers import DotProductAttention, Embed, SoftmaxHead
        from rnnjax.models import EncoderDecoder, OneToMany

        decoder = OneToMany(
            experiment.make_writer("--decoder", self.decoder, self.features),
            SoftmaxHead(target_size),
            Embed(target_size, self.embedding),
            DotProductAttention(self.features),
        )
        layer = experiment.make_layer(
            "--encoder", self.encoder, self.features, window=self.max_words
        )
        return EncoderDecoder(layer, decoder, Embed(source_size, self.embedding))


def drop_words(key, tokens, rate):
    """Return tokens, each replaced by the unknown one with probability `rate`; ends stay."""
    dropped = jax.random.bernoulli(key, rate, tokens.shape) & (tokens != END)
    return jnp.where(dropped, 0, tokens)


def make_train_step(model, optimizer, word_dropout):
    from rnnjax.layers import masked_mean
    from rnnjax.models import shift_right

    import optax

    def train_step(state, batch):
        key, *keys = jax.random.split(state.key, 3)
        previous = shift_right(batch["targets"], START)
        drop = functools.partial(drop_words, rate=word_dropout)
        inputs, previous = map(drop, keys, (batch["inputs"], previous))
        lengths = {"seq_lengths": batch["lengths"], "target_lengths": batch["target_lengths"]}

        def loss_fn(params):
            logits = model.apply({"params": params}, inputs, previous, **lengths)
            losses = model.head.loss(logits, batch["targets"])
            return masked_mean(losses, batch["target_lengths"])

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1, key=key)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(model, key):
    token = jnp.zeros((1, 1), jnp.int32)
    return model.init(key, token, token, seq_lengths=jnp.ones(1, jnp.int32))["params"]


def translate(config, model, params, rows, length):
    """Return the translations `[S, N, length]` of all members, and their attention."""
    options = {"length": length, "beam_width": config.beam, "length_penalty": 1.0}
    search = functools.partial(decoding.translate, model, start=START, end=END, **options)
    rows = {name: rows[name] for name in ("inputs", "lengths")}
    return experiment.evaluate(search, params, rows)


def measure(config, run):
    import optax

    bleu, chrf = translation.bleu_and_chrf()
    with as_argument_error("--max-words"):
        train = translation.short_pairs("train", config.source, config.max_words)
        test = translation.short_pairs("test", config.source, config.max_words)
    with as_argument_error("--min-count"):
        fit = functools.partial(Vocabulary.fit, min_count=config.min_count)
        vocabularies = [fit(train.source_words), fit(train.target_words)]
    code = functools.partial(translation.columns, vocabularies, max_words=config.max_words)
    learned, held_out = code(train), code(test)
    model = config.make_model(*map(len, vocabularies))

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    examples = experiment.shuffled_batches(config, learned)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.word_dropout)
    params = experiment.fit(config, run, step, state, examples, label=config.encoder).params

    tokens, weights = translate(config, model, params, held_out, config.max_words + 1)
    write = functools.partial(translation.words_of, vocabularies[1])
    written = [
        list(map(write, *own, test.source_words)) for own in zip(tokens, weights, strict=True)
    ]
    answers = [list(map(translation.detokenize, own)) for own in written]  # [S][N]
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    looked = translation.attention_table(test.source_words, written[0], weights[0])
    run.write_table("attention", looked)
    experiment.save(run, params, {"tokens": [words.tokens for words in vocabularies]})
    similar = translation.most_similar(train.source_words, test.source_words)
    memory = [train.translations[place] for place in similar]
    baselines = {"copy of the source": test.texts, "translation memory": memory}
    references, source = test.translations, translation.SOURCES[config.source]
    return experiment.report(
        "BLEU",
        [bleu.corpus_score(own, [references]).score for own in answers],
        {name: bleu.corpus_score(own, [references]).score for name, own in baselines.items()},
        higher_is_better=True,
        source=f"{source.description}; {' to '.join(source.languages)}, in lower case, "
        f"at most {config.max_words} words",
        examples=[
            {"source": test.texts[i], "translation": answers[0][i], "reference": references[i]}
            for i in range(0, len(references), -(-len(references) // 8))
        ],
        chrf=[chrf.corpus_score(own, [references]).score for own in answers],
        exact_matches=[np.mean(np.array(own) == references) for own in answers],
        signature=str(bleu.get_signature()),
        pairs={"train": len(train.texts), "test": len(references)},
        vocabulary=[len(words) for words in vocabularies],
        parameters=experiment.parameter_count(params),
        gradient_reach={part["layer"]: experiment.reach(part) for part in table},
    )


def gradients(model, params, rows):
    """Return the table of gradients of the last word's loss, over the longest sentences."""
    from rnnjax.models import shift_right

    longest = experiment.longest(np.minimum(rows["lengths"], rows["target_lengths"]))
    sources, lengths, targets, target_lengths = (column[longest] for column in rows.values())
    steps = target_lengths - 2  # the last word comes before the end
    last, inputs = targets[np.arange(len(steps)), steps], (sources, shift_right(targets, START))
    options = {"steps": steps, "seq_lengths": lengths, "target_lengths": target_lengths}
    ends = {"encoder": lengths, "embed": lengths}  # there, lags count from the end of the source
    return experiment.loss_gradients(model, params, last, *inputs, ends=ends, **options)


def draw(run):
    """Draw the figures of every application, and the attention."""
    experiment.draw(run)
    labels = {"xlabel": "word of the source", "ylabel": "word of the translation"}
    options: Any = {"panel": "sentences", "label": "attention"} | labels
    experiment.draw_heat_maps(run, "attention", "source_word", "word", "weight", **options)


def answer(config, run, asked):
    """Yield the translation of each sentence; that of a line without words is empty."""
    sentences = [translation.tokenize(line) for line in experiment.lines(asked)]
    stored = run.read_json("preprocessing.json")["tokens"]
    read, write = (Vocabulary(tuple(tokens)) for tokens in stored)
    model: Any = config.make_model(len(read), len(write))
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    every = jax.tree.map(lambda a: a[None], params)
    inputs, lengths = batches.pad([read.encode(words or ["nothing"]) for words in sentences])
    length = max(config.max_words, 2 * inputs.shape[1]) + 1
    rows = {"inputs": inputs, "lengths": lengths}
    (tokens,), (weights,) = translate(config, model, every, rows, length)
    for words, own, looked in zip(sentences, tokens, weights, strict=True):
        found = translation.words_of(write, own, looked, words) if words else []
        yield translation.detokenize(found)


run = experiment.Experiment(
    "translation", Config, measure, beats_baseline, draw, show=show_report, answer=answer
)

if __name__ == "__main__":
    run.main()
