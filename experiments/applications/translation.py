"""Translation: read a sentence, then write it in another language.

Claim: an encoder-decoder with attention learns to translate from pairs of sentences alone. A
recurrent network (or another) reads the source; a second one, started from the first one's final
state, writes the translation word by word and looks back at all of the source before each word.
Words that are rare in training are one word, `<unknown>`; where the decoder writes it, the source
word that it looks at most stands instead, which is right for names and placeholders.
Sources: Sutskever, Vinyals, Le 2014, arXiv:1409.3215; Bahdanau, Cho, Bengio 2015, arXiv:1409.0473;
for the attention and the unknown words Luong, Pham, Manning 2015, arXiv:1508.04025, and Luong,
Sutskever, Le, Vinyals, Zaremba 2015, arXiv:1410.8206; for the dropped words Iyyer et al. 2015.

Metric: BLEU of the whole test split (sacrebleu, lower case, one reference); chrF and the share of
exact matches stand in the summary too. Baselines: the source as it is, and the translation of that
training sentence which shares most words with it (a translation memory).
The gradient is that of the last word's loss, in the decoder with lags from that word, in the
encoder from the end of the source.

    python experiments/applications/translation.py --out runs/french
    python experiments/applications/translation.py --out runs/french --predict "Open the file"
    python experiments/applications/translation.py --source tatoeba --max-words 20
    python experiments/applications/translation.py --source ted --steps 20000 --max-words 40
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment, models
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, translation, vocabulary
from rnnjax.datasets.translation import detokenize, plain, tokenize
from rnnjax.experiment import applications
from rnnjax.experiment.applications import NETWORKS, Options

DECODERS = "elman", "lstm", "gru", "deep_gru"
START = END = 1  # of `Vocabulary`


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Translate sentences with an encoder-decoder, and compare with copying the source.

    Prints and writes summary.json: BLEU on held-out sentences beside the baselines, chrF, exact
    matches and examples; the gradient against the lag and where the decoder looks as figures; and
    the trained networks, for `--predict "Open the file"`. The default run takes about a minute on
    two CPU cores.
    """

    source: Literal[tuple(translation.SOURCES)] = "jupyterlab"  # pyright: ignore
    """The pairs: a user interface in English and French, Tatoeba in the same, or TED talks in
    Portuguese and English; the last two are downloaded."""
    encoder: Literal[NETWORKS] = "bidirectional_gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the source."""
    decoder: Literal[DECODERS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What writes the translation."""
    features: int = 96
    """Hidden units of each layer and direction."""
    embedding: int = 96
    """Length of a word's vector, in either language."""
    max_words: int = 12
    """Pairs of which a side has more words and punctuation marks than this are left out."""
    min_count: int = 2
    """How often a word must occur in the training split, else it is unknown."""
    word_dropout: float = 0.2
    """The share of words, in either language, that are read as unknown in training."""
    beam: int = 4
    """Hypotheses that the search keeps."""
    steps: int = 700
    batch_size: int = 64
    learning_rate: float = 5e-3
    """Of Adam at first; it falls to zero along a cosine."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "embedding", "max_words", "min_count", "beam")
        if not 0 <= self.word_dropout < 1:
            raise ArgumentError(f"--word-dropout must lie in 0..1, got {self.word_dropout}")
        applications.network(self.encoder, self.features, window=self.max_words)

    def make_model(self, source_size, target_size):
        """Return the model for vocabularies of these sizes."""
        from rnnjax.layers import DotProductAttention, Embed, SoftmaxHead

        make = functools.partial(applications.network, window=self.max_words)
        decoder = models.OneToMany(
            make(self.decoder, self.features),
            SoftmaxHead(target_size),
            Embed(target_size, self.embedding),
            DotProductAttention(self.features),
        )
        encoder = make(self.encoder, self.features)
        return models.EncoderDecoder(encoder, decoder, Embed(source_size, self.embedding))


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


def columns(config, vocabularies, sources, targets):
    """Return the columns of a batch: numbers of tokens, each target with its end, and lengths."""
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
    """Return tokens of which some are unknown, each with probability `rate`."""
    dropped = jax.random.bernoulli(key, rate, tokens.shape) & (tokens != END)
    return jnp.where(dropped, 0, tokens)


def make_train_step(model, optimizer, word_dropout):
    import optax

    from rnnjax.layers import masked_mean

    def train_step(state, batch):
        key, *keys = jax.random.split(state.key, 3)
        said = models.shift_right(batch["targets"], START)
        inputs, said = map(
            functools.partial(drop_words, rate=word_dropout), keys, (batch["inputs"], said)
        )
        lengths = {
            "seq_lengths": batch["lengths"],
            "target_lengths": batch["target_lengths"],
        }

        def loss_fn(params):
            logits = model.apply({"params": params}, inputs, said, **lengths)
            losses = model.decoder.head.loss(logits, batch["targets"])
            return masked_mean(losses, batch["target_lengths"])

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1, key=key)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def search(model, params, inputs, lengths, *, length, beam):
    """Return the best translation's tokens `[B, length]` and where each looks, `[B, length, S]`."""
    variables = {"params": params}
    state = model.apply(variables, inputs, seq_lengths=lengths, method="start")
    step = functools.partial(model.apply, variables, method="step")
    found, _, _ = decoding.beam_search(
        step, state, START, length=length, beam_width=beam, end=END, length_penalty=1.0
    )
    tokens = found[:, 0]
    said = models.shift_right(tokens, START)
    _, seen = model.apply(variables, inputs, said, seq_lengths=lengths, mutable=["intermediates"])
    (weights,) = seen["intermediates"]["decoder"]["attention"]["weights"]
    return tokens, weights


def write(vocabulary, tokens, weights, source):
    """Return the words of a translation; an unknown one is the source word it looks at most."""
    words = vocabulary.decode(tokens.tolist())
    looked = weights[: len(words), : len(source)].argmax(-1)
    return [
        source[place] if number == 0 else word
        for word, number, place in zip(words, tokens, looked, strict=False)
    ]


def remember(memory, sources):
    """Return for each source the training source that shares most words with it: their places.

    By the Jaccard index of the sets of words; of equals the first.
    """
    sets = [set(words) for words in memory]
    sizes = np.array([len(words) for words in sets])
    places = collections.defaultdict(list)
    for place, words in enumerate(sets):
        for word in words:
            places[word].append(place)
    found = []
    for words in map(set, sources):
        shared = np.zeros(len(memory))
        for word in words & places.keys():
            shared[places[word]] += 1
        found.append(int((shared / (sizes + len(words) - shared)).argmax()))
    return found


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
    pipelines = experiment.shuffled_batches(config, train)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.word_dropout)
    params = experiment.fit(config, run, step, state, pipelines, label=config.encoder).params

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
    memory = [translations[i] for i in remember(sources, test_sources)]
    exact = [np.mean([a == r for a, r in zip(m, references, strict=True)]) for m in answers]
    pair = " to ".join(translation.SOURCES[config.source].languages)
    return experiment.report(
        "BLEU",
        [bleu.corpus_score(member, [references]).score for member in answers],
        {
            "copy of the source": bleu.corpus_score(test_texts, [references]).score,
            "translation memory": bleu.corpus_score(memory, [references]).score,
        },
        higher_is_better=True,
        source=f"{translation.SOURCES[config.source].description}; {pair}, in lower case, "
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


def fit(config, sentences):
    try:
        return vocabulary.Vocabulary.fit(sentences, min_count=config.min_count)
    except ValueError:
        raise ArgumentError(
            f"--min-count {config.min_count} leaves no word; give a smaller number"
        ) from None


def initialise(model, key):
    token = jnp.zeros((1, 1), jnp.int32)
    return model.init(key, token, token, seq_lengths=jnp.ones(1, jnp.int32))["params"]


def translate(config, model, params, rows, length):
    """Return every member's translations of rows and where they look: `search`, `[S, N, ...]`."""

    def function(params, inputs, lengths):
        return search(model, params, inputs, lengths, length=length, beam=config.beam)

    rows = {name: rows[name] for name in ("inputs", "lengths")}
    return experiment.evaluate(function, params, rows)


def gradients(model, params, rows, count=32):
    """Return the table of gradients of the last word's loss, over the longest sentences."""
    longest = np.argsort(-np.minimum(rows["lengths"], rows["target_lengths"]), kind="stable")
    rows = {name: jnp.asarray(column[longest[:count]]) for name, column in rows.items()}
    words = rows["target_lengths"] - 1  # without the end
    last = jnp.arange(rows["targets"].shape[1]) == words[:, None] - 1
    profiles = experiment.log_gradients(
        model,
        params,
        lambda logits: jnp.where(last, model.decoder.head.loss(logits, rows["targets"]), 0).sum(),
        rows["inputs"],
        models.shift_right(rows["targets"], START),
        seq_lengths=rows["lengths"],
        target_lengths=rows["target_lengths"],
    )
    lengths = {
        layer: words if layer.startswith("decoder") else rows["lengths"] for layer in profiles
    }
    return experiment.gradient_table(profiles, lengths)


def attention(sources, written, weights, panels=3):
    """Return the parts of a table: where each word of some translations looks."""
    parts = []
    for source, words, looked in zip(sources, written, weights, strict=True):
        if len(parts) < panels and 4 <= len(source) <= 6 and 0 < len(words) <= 8:
            places = np.indices((len(words), len(source))).reshape(2, -1) + 1
            sentences = f"{' '.join(source)}\n{' '.join(words)}".replace("$", r"\$")
            part = {"sentences": sentences, "word": places[0], "source_word": places[1]}
            parts.append(part | {"weight": looked[: len(words), : len(source)].ravel()})
    return parts or [{name: [] for name in ("sentences", "word", "source_word", "weight")}]


def draw(run):
    """Draw the figures of a run: those of every application, and where the decoder looks."""
    from rnnjax import figures

    applications.draw(run)
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
    """Yield the translation of each sentence; that of one without words is empty."""
    sentences = [tokenize(line) for line in experiment.lines(asked)]
    stored = run.read_json("preprocessing.json")["tokens"]
    vocabularies = [vocabulary.Vocabulary(tuple(tokens)) for tokens in stored]
    model = config.make_model(*map(len, vocabularies))
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


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("translation", config, measured, answer, draw)


if __name__ == "__main__":
    main(Config, run)
