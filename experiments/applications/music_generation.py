"""Music generation: write a chorale in four voices, note by note, from nothing but its key.

Claim: a recurrent network learns melody, harmony and metre from Bach's chorales. One-to-many: what
it is told (major or minor, the bar, the upbeat) is where its state starts; from there it reads what
it wrote. (Boulanger-Lewandowski, Bengio, Vincent 2012, arXiv:1206.6392, modelled the same chorales
on a coarser grid; so their numbers are not comparable.)

A chorale is read as events: "s67" is a soprano's note, MIDI number 67, that begins now; "t rest" a
tenor's rest; "at 4" moves on to the next such place, counted in sixteenths from the bar line. All
are transposed to C major or A minor.

Metric: bits per sixteenth, all four voices together, of held-out chorales whose melodies are in no
training chorale; their ends are counted too. Baselines, each voice by itself, fitted on the same
training chorales: what begins or goes on at a sixteenth by its frequency (unigram), given what the
sixteenth before had (bigram), and given what still sounds and the place within the beat.

    python experiments/applications/music_generation.py --out runs/chorales
    python experiments/applications/music_generation.py --out runs/chorales --predict "f# minor"
"""

import collections
import dataclasses
import functools
import math
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, at_least, main, positive
from rnnjax.datasets import batches, music
from rnnjax.datasets.music import HOLD, REST, VOICES
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import applications
from rnnjax.experiment.applications import Options

END = 1
NETWORKS = "elman", "lstm", "gru", "deep_gru"
SOURCE = (
    "J. S. Bach's chorales from the corpus of music21, those for four voices alone, without words: "
    "real but of demonstration scale (283 chorales to learn from, 35 with other melodies held out)"
)
TRIADS = (0, 4, 7), (0, 3, 7), (0, 3, 6)
SEVENTHS = (0, 4, 7, 10), (0, 3, 7, 10), (0, 4, 7, 11), (0, 3, 6, 10), (0, 3, 6, 9)
CHORDS = [{(root + i) % 12 for i in c} for c in (*TRIADS, *SEVENTHS) for root in range(12)]


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Learn from Bach's chorales, write new ones, and compare bits per sixteenth with bigrams.

    Prints and writes summary.json: the bits per sixteenth of held-out chorales, those of unigrams
    and bigrams beside them, a few statistics of new chorales and Bach's; new chorales as MIDI files
    and drawn as voices; the gradient against the lag as a figure; and the trained networks, for
    `--predict KEY`. The default run takes about a minute on two CPU cores, and half a minute more
    when the chorales are prepared for the first time.
    """

    network: Literal[NETWORKS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the events and writes the next."""
    features: int = 128
    """Hidden units of each layer."""
    embedding: int = 64
    """Numbers that stand for an event."""
    window: int = 384
    """Events in an example of training; longer chorales are cut off, held-out ones are not."""
    steps: int = 800
    batch_size: int = 8
    learning_rate: float = 2e-2
    """Of Adam at the start; it falls to nothing along half a cosine."""
    weight_decay: float = 0.5
    """Decoupled from the gradient, in units of the learning rate."""
    temperature: float = 0.8
    """Of what is drawn: below 1 the probable becomes more so. A finished run keeps its own."""
    samples: int = 4
    """New chorales of each network in major, and as many in minor; the first become MIDI files."""
    length: int = 1000
    """Events to write at most; a finished run keeps its own."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "embedding", "samples")
        at_least(2, self, "window", "length")
        at_least(0, self, "weight_decay")
        positive(self, "temperature")

    def make_model(self, tokens):
        """Return the network for so many tokens."""
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import OneToMany

        layer = applications.network(self.network, self.features, window=self.window)
        return OneToMany(layer, SoftmaxHead(tokens), Embed(tokens, self.embedding))


def home(chorale):
    """Return the voices in C major or A minor, whichever octave is nearer."""
    shift = ((0 if chorale.mode == "major" else 9) - chorale.tonic) % 12
    return music.transpose(chorale.pitches, shift - 12 if shift > 6 else shift)


def to_events(pitches, bar, upbeat):
    """Return the events of voices `[T, 4]`, as the docstring above describes them."""
    written, waiting = [], False
    for t, row in enumerate(pitches):
        place = (t - upbeat) % bar
        begin = np.flatnonzero(row != HOLD)
        if waiting and (len(begin) or place == 0):  # no place is further off than a bar
            written.append(f"at {place}")
        names = [f"{VOICES[v][0]}{'' if row[v] > REST else ' '}" for v in begin]
        pitch = [str(row[v]) if row[v] > REST else "rest" for v in begin]
        written += [name + value for name, value in zip(names, pitch, strict=True)]
        waiting = True
    return [*written, f"at {(len(pitches) - upbeat) % bar}"]


def from_events(events, bar, upbeat):
    """Return the voices `[T, 4]` of events; those that belong to no voice are passed over."""
    rows = [[HOLD] * 4]
    for event in events:
        name, _, value = event.partition(" ")
        if name == "at":
            wait = (int(value) - (len(rows) - 1 - upbeat) - 1) % bar + 1
            rows += [[HOLD] * 4 for _ in range(wait)]
        elif (voice := "satb".find(name[0])) >= 0:
            rows[-1][voice] = REST if value == "rest" else int(name[1:])
    return np.array(rows[:-1], np.int32).reshape(-1, 4)  # the last place is where it ends


def context(mode, bar, upbeat):
    """Return what a network is told about a chorale before it begins, `[4]`."""
    return np.array([mode == "major", mode == "minor", bar / 16, upbeat / bar], np.float32)


def columns(rows, vocabulary, window=None):
    """Return the network's inputs and targets for chorales, `[N, ...]`."""
    events = [to_events(home(c), c.bar, c.upbeat) for c in rows]
    targets, lengths = batches.pad([np.append(vocabulary.encode(e), END) for e in events], window)
    return {
        "context": np.stack([context(c.mode, c.bar, c.upbeat) for c in rows]),
        "targets": targets.astype(np.int32),
        "lengths": lengths,
    }


def event_losses(model, params, batch):
    """Return the cross-entropy of every event, `[B, T]` in nats; 0 behind a chorale's end."""
    from rnnjax.models import shift_right

    previous, lengths = shift_right(batch["targets"], END), batch["lengths"]
    ys = model.apply({"params": params}, batch["context"], previous, seq_lengths=lengths)
    valid = jnp.arange(ys.shape[1]) < lengths[:, None]
    return jnp.where(valid, model.head.loss(ys, batch["targets"]), 0)


def make_train_step(model, optimizer):
    import optax

    def train_step(state, batch):
        def loss_fn(params):
            return event_losses(model, params, batch).sum() / batch["lengths"].sum()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def conditions(chorale, pitches):
    """Return, by baseline, what it knows of each sixteenth `[T, 4]` before it comes."""
    start = np.full((1, 4), -1)
    sounds = np.concatenate([start, music.sounding(pitches)[:-1]])
    beat = (np.arange(len(pitches)) - chorale.upbeat) % chorale.bar % 4
    return {
        "unigram": np.zeros_like(pitches),
        "bigram": np.concatenate([start, pitches[:-1]]),
        "bigram of notes within the beat": 4 * sounds + beat[:, None],
    }


def baselines(train, held_out):
    """Return the bits per sixteenth of held-out chorales, all voices, by baseline.

    p(x | condition) = (count(condition x) + types(condition) p(x)) / (count(condition) + types),
    and p(x) likewise from a uniform distribution: Witten, Bell 1991, "The zero-frequency problem",
    method C. What no training chorale has in this voice is one further symbol.
    """
    counts = collections.defaultdict(collections.Counter)
    for chorale in train:
        pitches = home(chorale)
        for name, known in conditions(chorale, pitches).items():
            for v in range(4):
                for condition, x in zip(known[:, v].tolist(), pitches[:, v].tolist(), strict=True):
                    counts[name, v, condition][x] += 1
    bits, sixteenths = collections.defaultdict(float), 0
    for chorale in held_out:
        pitches = home(chorale)
        sixteenths += len(pitches)
        for name, known in conditions(chorale, pitches).items():
            for v in range(4):
                own = counts["unigram", v, 0]
                for condition, x in zip(known[:, v].tolist(), pitches[:, v].tolist(), strict=True):
                    p = interpolate(own, x, 1 / (len(own) + 1))
                    if name != "unigram" and (name, v, condition) in counts:
                        p = interpolate(counts[name, v, condition], x, p)
                    bits[name] -= math.log2(p)
    return {name: value / sixteenths for name, value in bits.items()}


def interpolate(found, x, otherwise):
    """Return the probability of x by these counts, mixed with what it is otherwise."""
    types = len(found)
    return (found[x] + types * otherwise) / (found.total() + types)


@functools.partial(jax.jit, static_argnames=("model", "length"))
def draw_events(model, params, contexts, key, temperature, *, length):
    """Return tokens `[B, length]` that a network draws from contexts `[B, 4]`."""
    variables = {"params": params}

    def step(state, token):
        state, logits = model.apply(variables, state, token, method="step")
        return state, logits.at[:, 0].set(-jnp.inf)  # the unknown event is never written

    state = model.apply(variables, contexts, method="start")
    options = {"length": length, "end": END, "temperature": temperature}
    return decoding.sample(step, state, END, key=key, **options)[0]


def write(config, vocabulary, params, modes, *, seed, bar=16, upbeat=4):
    """Return new chorales, one for each mode, as voices `[T, 4]` in C major or A minor."""
    tokens = draw_events(
        config.make_model(len(vocabulary)),
        params,
        jnp.stack([context(mode, bar, upbeat) for mode in modes]),
        jax.random.key(seed),
        config.temperature,
        length=config.length,
    )
    return [from_events(vocabulary.decode(row), bar, upbeat) for row in tokens.tolist()]


def statistics(pieces):
    """Return a few musical statistics of chorales, each `[T, 4]`."""
    chords = crossings = parallels = sixteenths = 0
    repeated = []
    for pitches in pieces:
        sounds = music.sounding(pitches)
        for notes in sounds.tolist():
            classes = {note % 12 for note in notes if note != REST}
            chords += any(classes <= chord for chord in CHORDS)
        below = np.where(sounds == REST, -np.inf, sounds)[:, 1:]
        above = np.where(sounds == REST, np.inf, sounds)[:, :-1]
        crossings += (above < below).any(1).sum()
        sixteenths += len(sounds)
        moves = np.diff(sounds, axis=0) != 0
        for low in range(4):
            for high in range(low):
                there = (sounds[:, [low, high]] != REST).all(1)
                interval = (sounds[:, high] - sounds[:, low]) % 12
                same = (interval[1:] == interval[:-1]) & np.isin(interval[1:], (0, 7))
                parallels += (same & moves[:, low] & moves[:, high] & there[1:] & there[:-1]).sum()
        for voice in pitches.T:
            notes = voice[voice > REST]
            repeated += (np.diff(notes) == 0).tolist()
    return {
        "chords": float(chords / max(sixteenths, 1)),
        "voice_crossings": float(crossings / max(sixteenths, 1)),
        "parallels_per_100": float(100 * parallels / max(sixteenths, 1)),
        "repeated_notes": float(np.mean(repeated)) if repeated else 0.0,
        "sixteenths": float(sixteenths / max(len(pieces), 1)),
    }


def measure(config, run):
    import optax

    from rnnjax.datasets.builders import package_file

    package_file("music21", "__init__.py", extra="music")  # which writes MIDI in the end
    train, test = music.load("train"), music.load("test")
    events = (to_events(home(c), c.bar, c.upbeat) for c in train)
    vocabulary = Vocabulary.fit(events, min_count=2)  # so that the unknown is met in training
    examples, held_out = columns(train, vocabulary, config.window), columns(test, vocabulary)
    pipelines = experiment.shuffled_batches(config, examples)
    model = config.make_model(len(vocabulary))
    falling = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(falling, weight_decay=config.weight_decay),
    )
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    def nats(params, **rows):
        return event_losses(model, params, rows).sum(1)

    sixteenths = sum(len(c.pitches) for c in test)
    found = experiment.evaluate(nats, params, held_out).sum(1) / math.log(2) / sixteenths
    run.write_table("gradients", table := gradients(model, params, held_out))
    modes = ["major", "minor"] * config.samples
    written = {
        seed: write(config, vocabulary, jax.tree.map(lambda p, i=i: p[i], params), modes, seed=seed)
        for i, seed in enumerate(config.members)
    }
    shown, rolls = [], [roll(f"Bach, {test[0].name}", home(test[0]))]
    for seed, pieces in written.items():
        for mode, pitches in zip(modes[:2], pieces[:2], strict=True):
            name = save_midi(run, f"new_{mode}_{seed}.mid", pitches)
            shown.append({"new chorale": f"{mode}, {len(pitches) / 16:.1f} bars", "file": name})
        rolls.append(roll(f"network {seed}, major", pieces[0]))
    run.write_table("voices", rolls)
    experiment.save(run, params, dataclasses.asdict(vocabulary))
    new = statistics([pitches for pieces in written.values() for pitches in pieces])
    measured = {"Bach, held out": statistics([home(c) for c in test]), "networks": new}
    for name, values in measured.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))
    return experiment.report(
        "bits per sixteenth",
        found,
        baselines(train, test),
        higher_is_better=False,
        source=SOURCE,
        examples=shown,
        music=measured,
        network=config.network,
        parameters=experiment.parameter_count(params),
        unknown=int(((held_out["targets"] == 0) & valid(held_out)).sum()),
        events=int(held_out["lengths"].sum()),
        sixteenths=sixteenths,
        gradient_reach=experiment.reach(table[0]),
    )


def valid(batch):
    return np.arange(batch["targets"].shape[1]) < batch["lengths"][:, None]


def initialise(model, key):
    return model.init(key, jnp.zeros((1, 4)), jnp.zeros((1, 1), jnp.int32))["params"]


def gradients(model, params, held_out, most=200):
    """Return the table of the gradient of an event's loss, the 200th of a chorale where it can."""
    from rnnjax.models import shift_right

    window = int(min(most, np.median(held_out["lengths"])))
    rows = np.flatnonzero(held_out["lengths"] >= window)[:32]
    targets = jnp.asarray(held_out["targets"][rows, :window])

    def loss(logits):
        return model.head.loss(logits[:, -1], targets[:, -1]).sum()

    told = jnp.asarray(held_out["context"][rows]), shift_right(targets, END)
    return experiment.gradient_table(experiment.log_gradients(model, params, loss, *told))


def roll(name, pitches):
    """Return the part of a table that shows a chorale: which voice sounds what, and when."""
    sounds = np.where((sounds := music.sounding(pitches)) == REST, np.nan, sounds)
    rows = {"chorale": name, "voice": np.repeat(VOICES, len(sounds))}
    return rows | {"sixteenth": np.tile(np.arange(len(sounds)), 4), "median": sounds.T.ravel()}


def save_midi(run, name, pitches):
    """Write a chorale as a MIDI file of the run, and return its name."""
    music.score(pitches).write("midi", run.file(name))
    return name


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    applications.draw(run)
    table = run.read_table("voices")
    figure = figures.curves(
        table,
        x="sixteenth",
        series="voice",
        panel="chorale",
        columns=2,
        xlabel="sixteenth",
        ylabel="MIDI number",
    )
    run.save_figure("voices", figure)


def parse_key(text):
    """Return the pitch class of the tonic and the mode of a key such as "G major" or "f# minor"."""
    found = re.fullmatch(r"([a-g])([#♯b♭]?)\s+(major|minor)", text.strip(), re.IGNORECASE)
    if not found:
        raise ArgumentError(
            f"--predict must be a key such as 'G major' or 'f# minor', got {text!r}"
        )
    letter, sign, mode = found.groups()
    natural = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[letter.lower()]
    return (natural + {"": 0, "#": 1, "♯": 1}.get(sign, -1)) % 12, mode.lower()


def answer(config, run, asked):
    """Write a new chorale in each key as a MIDI file, and yield its path."""
    keys = {line.strip(): parse_key(line) for line in experiment.lines(asked)}
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    init = functools.partial(initialise, config.make_model(len(vocabulary)))
    params = experiment.restore(run, init, members=config.seeds)
    for key, (tonic, mode) in keys.items():
        (pitches,) = write(config, vocabulary, params, [mode], seed=config.seed)
        shift = (tonic - (0 if mode == "major" else 9)) % 12
        pitches = music.transpose(pitches, shift - 12 if shift > 6 else shift)
        spelled = key.replace("♯", "#").replace("♭", "b").replace("#", "sharp")
        name = save_midi(run, f"asked_{'_'.join(spelled.split())}.mid", pitches)
        yield f"{key}: {run.path / name} ({len(pitches) / 16:.1f} bars)"


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("music_generation", config, measured, answer, draw)


if __name__ == "__main__":
    main(Config, run)
