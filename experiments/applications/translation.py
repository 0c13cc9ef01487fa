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

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds.

This file has more than 200 lines because there are two vocabularies, a search for the best
translation, and words to replace that no vocabulary has.

    python experiments/applications/translation.py --out runs/french
    python experiments/applications/translation.py --out runs/french --predict "Open the file"
    python experiments/applications/translation.py --source tatoeba --max-words 20
    python experiments/applications/translation.py --source ted --steps 20000 --max-words 40
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.datasets import batches, translation, vocabulary
from rnnjax.datasets.translation import detokenize, plain, tokenize
from rnnjax.datasets.translation.memory import most_similar

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
    also after deep_, bidirectional_ or deep_bidirectional_."""
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
        encoder = experiment.make_layer(
            "--encoder", self.encoder, self.features, window=self.max_words
        )
        return EncoderDecoder(encoder, decoder, Embed(source_size, self.embedding))


def load(config, split):
    """Return the pairs of a split that are short enough: texts and their tokens."""
    pairs = zip(*translation.load(split, config.source), strict=True)
    found = [(plain(s), plain(t), tokenize(s), tokenize(t)) for s, t in pairs]
    short = [pair for pair in found if max(map(len, pair[2:])) <= config.max_words]
    if not short:
        raise ArgumentError(
            f"--max-words {config.max_words} leaves no pair of {split}; give a larger number"
        )
    return [list(column) for column in zip(*short, strict=True)]


def fit(config, sentences):
    """Return the vocabulary of training sentences."""
    try:
        return vocabulary.Vocabulary.fit(sentences, min_count=config.min_count)
    except ValueError:
        raise ArgumentError(
            f"--min-count {config.min_count} leaves no word; give a smaller number"
        ) from None


def columns(config, vocabularies, sources, targets):
    """Return sentences as tokens, each target followed by an end, and their lengths."""
    read, write = vocabularies
    inputs, lengths = batches.pad([read.encode(s) for s in sources], config.max_words)
    ended = [np.append(write.encode(t), np.int32(END)) for t in targets]
    targets, target_lengths = batches.pad(ended, config.max_words + 1)
    return {
        "inputs": inputs,
        "lengths": lengths,
        "targets": targets,
        "target_lengths": target_lengths,
    }


def drop_words(key, tokens, rate):
    """Return tokens, each replaced by the unknown one with probability `rate`; ends stay."""
    dropped = jax.random.bernoulli(key, rate, tokens.shape) & (tokens != END)
    return jnp.where(dropped, 0, tokens)


def make_train_step(model, optimizer, word_dropout):
    import optax

    from rnnjax.layers import masked_mean
    from rnnjax.models import shift_right

    def train_step(state, batch):
        key, *keys = jax.random.split(state.key, 3)
        previous = shift_right(batch["targets"], START)
        drop = functools.partial(drop_words, rate=word_dropout)
        inputs, previous = map(drop, keys, (batch["inputs"], previous))
        lengths = {"seq_lengths": batch["lengths"], "target_lengths": batch["target_lengths"]}

        def loss_fn(params):
            logits = model.apply({"params": params}, inputs, previous, **lengths)
            losses = model.decoder.head.loss(logits, batch["targets"])
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


def search(model, params, inputs, lengths, *, length, beam):
    """Return the tokens of the best translation `[B, length]`, and its attention `[B, length, S]`.

    Args:
        inputs: `[B, S]`.
    """
    from rnnjax.models import shift_right

    variables = {"params": params}
    state = model.apply(variables, inputs, seq_lengths=lengths, method="start")
    step = functools.partial(model.apply, variables, method="step")
    found, _, _ = decoding.beam_search(
        step, state, START, length=length, beam_width=beam, end=END, length_penalty=1.0
    )
    tokens = found[:, 0]
    previous = shift_right(tokens, START)
    _, sown = model.apply(
        variables, inputs, previous, seq_lengths=lengths, mutable=["intermediates"]
    )
    (weights,) = sown["intermediates"]["decoder"]["attention"]["weights"]
    return tokens, weights


def translate(config, model, params, rows, length):
    """Return `search` of all members and rows, `[S, N, ...]`: translations and their attention."""

    def function(params, inputs, lengths):
        return search(model, params, inputs, lengths, length=length, beam=config.beam)

    rows = {name: rows[name] for name in ("inputs", "lengths")}
    return experiment.evaluate(function, params, rows)


def write(vocabulary, tokens, weights, source):
    """Return the words of a translation; for an unknown one, the source word it attends to most."""
    words = vocabulary.decode(tokens.tolist())
    looked = weights[: len(words), : len(source)].argmax(-1)
    return [
        source[place] if number == 0 else word
        for word, number, place in zip(words, tokens, looked, strict=False)
    ]


def measure(config, run):
    import optax

    bleu, chrf = scores()
    texts, translations, sources, targets = load(config, "train")
    test_texts, references, test_sources, test_targets = load(config, "test")
    vocabularies = [fit(config, sentences) for sentences in (sources, targets)]
    train = columns(config, vocabularies, sources, targets)
    held_out = columns(config, vocabularies, test_sources, test_targets)
    model = config.make_model(*map(len, vocabularies))

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    examples = experiment.shuffled_batches(config, train)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.word_dropout)
    params = experiment.fit(config, run, step, state, examples, label=config.encoder).params

    tokens, weights = translate(config, model, params, held_out, config.max_words + 1)
    written = [
        list(map(functools.partial(write, vocabularies[1]), *member, test_sources))
        for member in zip(tokens, weights, strict=True)
    ]
    answers = [[detokenize(words) for words in member] for member in written]
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    run.write_table("attention", attention(test_sources, written[0], weights[0]))
    experiment.save(run, params, {"tokens": [words.tokens for words in vocabularies]})
    memory = [translations[i] for i in most_similar(sources, test_sources)]
    exact = [np.mean([a == r for a, r in zip(m, references, strict=True)]) for m in answers]
    source = translation.SOURCES[config.source]
    return experiment.report(
        "BLEU",
        [bleu.corpus_score(member, [references]).score for member in answers],
        {
            "copy of the source": bleu.corpus_score(test_texts, [references]).score,
            "translation memory": bleu.corpus_score(memory, [references]).score,
        },
        higher_is_better=True,
        source=f"{source.description}; {' to '.join(source.languages)}, in lower case, "
        f"at most {config.max_words} words",
        examples=[
            {"source": test_texts[i], "translation": answers[0][i], "reference": references[i]}
            for i in range(0, len(references), -(-len(references) // 8))
        ],
        chrf=[chrf.corpus_score(member, [references]).score for member in answers],
        exact_matches=exact,
        signature=str(bleu.get_signature()),
        pairs={"train": len(texts), "test": len(references)},
        vocabulary=[len(words) for words in vocabularies],
        parameters=experiment.parameter_count(params),
        gradient_reach={part["layer"]: experiment.reach(part) for part in table},
    )


def scores():
    """Return sacrebleu's BLEU and chrF."""
    try:
        from sacrebleu import BLEU, CHRF
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "translations are scored by sacrebleu, which cannot be imported "
            f"({error.name} is missing): pip install 'rnnjax[text]'",
            name=error.name,
        ) from None
    return BLEU(), CHRF()


def gradients(model, params, rows, count=32):
    """Return the table of gradients of the last word's loss, over the longest sentences."""
    from rnnjax.models import shift_right

    longest = np.argsort(-np.minimum(rows["lengths"], rows["target_lengths"]), kind="stable")
    rows = {name: jnp.asarray(column[longest[:count]]) for name, column in rows.items()}
    words = rows["target_lengths"] - 1  # without the end
    last = jnp.arange(rows["targets"].shape[1]) == words[:, None] - 1
    profiles = experiment.log_gradients(
        model,
        params,
        lambda logits: jnp.where(last, model.decoder.head.loss(logits, rows["targets"]), 0).sum(),
        rows["inputs"],
        shift_right(rows["targets"], START),
        seq_lengths=rows["lengths"],
        target_lengths=rows["target_lengths"],
    )
    lengths = {
        layer: words if layer.startswith("decoder") else rows["lengths"] for layer in profiles
    }
    return experiment.gradient_table(profiles, lengths)


def attention(sources, written, weights, panels=3):
    """Return the parts of a table: the attention of some translations, word by source word."""
    parts = []
    for source, words, looked in zip(sources, written, weights, strict=True):
        if len(parts) < panels and 4 <= len(source) <= 6 and 0 < len(words) <= 8:
            places = np.indices((len(words), len(source))).reshape(2, -1) + 1
            sentences = f"{' '.join(source)}\n{' '.join(words)}".replace("$", r"\$")
            part = {"sentences": sentences, "word": places[0], "source_word": places[1]}
            parts.append(part | {"weight": looked[: len(words), : len(source)].ravel()})
    return parts or [{name: [] for name in ("sentences", "word", "source_word", "weight")}]


def draw(run):
    """Draw the figures of every application, and the attention."""
    from rnnjax import figures

    experiment.draw(run)
    table = run.read_table("attention")
    if len(table["word"]):
        figure = figures.heat_maps(
            table,
            x="source_word",
            y="word",
            value="weight",
            panel="sentences",
            xlabel="word of the source",
            ylabel="word of the translation",
            label="attention",
        )
        run.save_figure("attention", figure)


def answer(config, run, asked):
    """Yield the translation of each sentence; that of a line without words is empty."""
    sentences = [tokenize(line) for line in experiment.lines(asked)]
    stored = run.read_json("preprocessing.json")["tokens"]
    vocabularies = [vocabulary.Vocabulary(tuple(tokens)) for tokens in stored]
    model: Any = config.make_model(*map(len, vocabularies))
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    spoken = [words for words in sentences if words]
    written = []
    if spoken:
        inputs, lengths = batches.pad([vocabularies[0].encode(words) for words in spoken])
        rows = {"inputs": inputs, "lengths": lengths}
        length = max(config.max_words, 2 * inputs.shape[1]) + 1
        members = jax.tree.map(lambda a: a[None], params)
        (tokens,), (weights,) = translate(config, model, members, rows, length)
        written = list(map(functools.partial(write, vocabularies[1]), tokens, weights, spoken))
    for words in sentences:
        yield detokenize(written.pop(0)) if words else ""


run = experiment.Experiment(
    "translation",
    Config,
    measure,
    experiment.beats_baseline,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
