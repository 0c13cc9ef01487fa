"""Music generation: write a chorale in four voices, note by note, from nothing but its key.

Claim: a recurrent network learns melody, harmony and metre from Bach's chorales. One-to-many: major
or minor, the bar and the upbeat set the first state; from there the network reads the events that
it has written. (Boulanger-Lewandowski, Bengio, Vincent 2012, arXiv:1206.6392, modelled the same
chorales on a coarser grid, so the numbers are not comparable.)

A chorale is a sequence of events (`rnnjax.datasets.music.events`): a note or a rest of one voice
begins, or time moves on to another position in the bar. All chorales are transposed to C major or
A minor.

Metric: bits per sixteenth, all four voices together and the end included, of held-out chorales
whose melodies are in no training chorale. Baselines: each voice by itself, fitted on the same
training chorales (`rnnjax.datasets.music.n_grams`): what begins or continues at a sixteenth by its
frequency (unigram), given the previous sixteenth (bigram), and given the sounding note and the
position within the beat.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds;
`quick run only` if --steps or --seeds is below its default.

This file has more than 200 lines because no number says whether new chorales are music: they are
also written as MIDI files, drawn as voices, and compared with Bach's by their statistics.

    python experiments/applications/music_generation.py --out runs/chorales
    python experiments/applications/music_generation.py --out runs/chorales --predict "f# minor"
"""

import dataclasses
import functools
import math
from typing import Any

from rnnjax import decoding, experiment
from rnnjax.command_line import as_argument_error, at_least, positive
from rnnjax.datasets import batches, music
from rnnjax.datasets.music.events import TONICS, from_events, home, to_key
from rnnjax.datasets.music.examples import columns, context, events
from rnnjax.datasets.music.n_grams import bits_per_sixteenth
from rnnjax.datasets.music.statistics import statistics
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.experiment import beats_baseline

import jax
import jax.numpy as jnp
import numpy as np

UNKNOWN, END = 0, 1  # of `Vocabulary`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.WriterOptions):
    """Learn from Bach's chorales, write new ones, and compare bits per sixteenth with bigrams.

    Prints and writes summary.json: the bits per sixteenth of held-out chorales beside those of
    unigrams and bigrams, and statistics of new chorales and Bach's. Writes new chorales as MIDI
    files. Draws them as voices, and the gradient against the lag. Saves the trained networks for
    `--predict KEY`. The default run takes about a minute on two CPU cores, and half a minute more
    when the chorales are prepared for the first time.
    """

    features: int = 128
    embedding: int = 64
    """Length of an event's vector."""
    window: int = 384
    """Events in a training example; longer training chorales are cut, held-out ones are not."""
    steps: int = 800
    batch_size: int = 8
    learning_rate: float = 2e-2
    """Initial step size of the Adam optimiser; it decays to zero along a cosine."""
    weight_decay: float = 0.5
    """Weight decay, decoupled from the gradient, in units of the learning rate."""
    temperature: float = 0.8
    """Temperature of sampling; below 1, probable events become more probable."""
    top_p: float = 1.0
    """Draw from the fewest events that have this probability together. --predict uses this and
    the temperature of the finished run."""
    samples: int = 4
    """New chorales of each network in major, and as many in minor; the first become MIDI files."""
    length: int = 1000
    """Events to write at most; --predict uses that of the finished run."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "embedding", "samples")
        at_least(2, self, "window", "length")
        at_least(0, self, "weight_decay")
        positive(self, "temperature")
        positive(self, "top_p", most=1)

    def make_model(self, tokens):
        """Return the network for a vocabulary of this size."""
        from rnnjax.layers import Embed, SoftmaxHead
        from rnnjax.models import OneToMany

        return OneToMany(self.make_layer(), SoftmaxHead(tokens), Embed(tokens, self.embedding))


def event_losses(model, params, batch):
    """Return the cross-entropy of every event, `[B, T]` in nats; 0 after a chorale's end."""
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


def initialise(model, key):
    return model.init(key, jnp.zeros((1, 4)), jnp.zeros((1, 1), jnp.int32))["params"]


def write(config, vocabulary, params, modes, *, seed, bar=16, upbeat=4):
    """Return one new chorale per mode, as voices `[T, 4]` in C major or A minor."""
    model, key = config.make_model(len(vocabulary)), jax.random.key(seed)
    contexts = np.stack([context(mode, bar, upbeat) for mode in modes])
    options = {"length": config.length, "temperature": config.temperature, "top_p": config.top_p}
    options |= {"end": END, "never": UNKNOWN}
    tokens = decoding.sample_from(model, params, contexts, END, key, **options)
    return [from_events(vocabulary.decode(row), bar, upbeat) for row in tokens.tolist()]


def measure(config, run):
    import optax

    music.check_music21()  # needed at the end, to write MIDI
    train, test = music.load("train"), music.load("test")
    vocabulary = Vocabulary.fit(events(train), min_count=2)  # so that training has unknown events
    rows, held_out = columns(train, vocabulary, config.window), columns(test, vocabulary)
    examples = experiment.shuffled_batches(config, rows)

    model = config.make_model(len(vocabulary))
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    adam = optax.adamw(rate, weight_decay=config.weight_decay)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adam)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    def nats(params, **rows):
        return event_losses(model, params, rows).sum(1)

    sixteenths = sum(len(c.pitches) for c in test)
    found = experiment.evaluate(nats, params, held_out).sum(1) / math.log(2) / sixteenths
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    modes = music.MODES * config.samples
    written = {
        seed: write(config, vocabulary, experiment.member(params, i), modes, seed=seed)
        for i, seed in enumerate(config.members)
    }
    shown, rolls = [], {f"Bach, {test[0].name}": home(test[0])}
    for seed, pieces in written.items():
        for mode, pitches in zip(modes[:2], pieces[:2], strict=True):
            name = music.write_midi(run.file(f"new_{mode}_{seed}.mid"), pitches)
            shown.append({"new chorale": f"{mode}, {len(pitches) / 16:.1f} bars", "file": name})
        rolls[f"network {seed}, major"] = pieces[0]
    run.write_table("voices", [{"chorale": c} | music.roll(notes) for c, notes in rolls.items()])
    experiment.save(run, params, dataclasses.asdict(vocabulary))
    new = [pitches for pieces in written.values() for pitches in pieces]
    valid = batches.valid(held_out["lengths"], held_out["targets"].shape[1])
    return experiment.report(
        "bits per sixteenth",
        found,
        bits_per_sixteenth(train, test),
        higher_is_better=False,
        source=music.SOURCE,
        examples=shown,
        music={"Bach, held out": statistics(list(map(home, test))), "networks": statistics(new)},
        network=config.network,
        parameters=experiment.parameter_count(params),
        unknown=int((held_out["targets"][valid] == UNKNOWN).sum()),
        events=int(held_out["lengths"].sum()),
        sixteenths=sixteenths,
        gradient_reach=experiment.reach(table[0]),
    )


def gradients(model, params, held_out, most=200):
    """Return the table of the gradient of the loss of one event, at most the 200th of a chorale."""
    from rnnjax.models import shift_right

    window = int(min(most, np.median(held_out["lengths"])))
    rows = np.flatnonzero(held_out["lengths"] >= window)[:32]
    targets = held_out["targets"][rows, :window]
    inputs = held_out["context"][rows], shift_right(targets, END)
    return experiment.loss_gradients(model, params, targets[:, -1], *inputs, steps=-1)


def show(summary):
    experiment.show_report(summary)
    for name, values in summary["music"].items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))


def draw(run):
    """Draw the figures of every application, and the voices of some chorales."""
    experiment.draw(run)
    axes: Any = {"xlabel": "sixteenth", "ylabel": "MIDI number"}
    experiment.draw_curves(run, "voices", "sixteenth", "voice", panel="chorale", columns=2, **axes)


def answer(config, run, asked):
    """Write a new chorale in each key as a MIDI file, and yield its path."""
    with as_argument_error("--predict"):
        keys = {line.strip(): music.parse_key(line) for line in experiment.lines(asked)}
    vocabulary = Vocabulary(tuple(run.read_json("preprocessing.json")["tokens"]))
    init = functools.partial(initialise, config.make_model(len(vocabulary)))
    params = experiment.restore(run, init, members=config.seeds)
    for key, (tonic, mode) in keys.items():
        (pitches,) = write(config, vocabulary, params, [mode], seed=config.seed)
        pitches = to_key(pitches, tonic - TONICS[mode])
        name = music.write_midi(run.file(f"asked_{music.file_name(key)}.mid"), pitches)
        yield f"{key}: {run.path / name} ({len(pitches) / 16:.1f} bars)"


run = experiment.Experiment(
    "music_generation", Config, measure, beats_baseline, draw, show=show, answer=answer
)

if __name__ == "__main__":
    run.main()
