"""Speech synthesis: say a digit with a voice that was never heard saying it.

Claim: a recurrent network that starts from one vector, which digit and which voice, draws the
spectrogram frame by frame, and so takes a digit apart from the voice that says it. One-to-many: the
vector sets the first state. At every step the network reads a clock, not the frame it drew last:
nothing drawn is fed back, so errors do not add up. It draws 40 log-mel bands in dB and how much of
the digit is said, which ends it. Griffin and Lim's algorithm makes sound of the frames.
Source of the form: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555.

The voices are variants of the synthesiser espeak-ng: synthetic speech, demonstration scale.

Metric: distance in dB between drawn and true frames, the mean absolute difference along the best
alignment in time (dynamic time warping), for pairs of digit and voice that are not in training.
Baselines: the mean spectrogram of the same digit over the training voices at the same speed; the
same, moved by the voice's mean distance from such means in each band; and the mean of everything.

    python experiments/applications/speech_synthesis.py --out runs/voices
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "seven"
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "four 0 7 f2"
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, speech
from rnnjax.datasets.speech import audio
from rnnjax.experiment import applications
from rnnjax.experiment.applications import Options

MEL = audio.LogMel(window=512, hop=128)  # 16 ms from frame to frame
NETWORKS = "elman", "lstm", "gru", "deep_gru"
SOURCE = "espeak_digits"
SAID = 4.0  # what stands for "all is said", less for "nothing is": a clock that counts in the loss
SPEED = 160  # words a minute
LONGEST = 20  # digits that --predict says at once


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Say digits with voices that were never heard saying them, and compare with mean digits.

    Prints and writes summary.json: the distance from the true frames in dB, the mean digit's beside
    it, and examples; the gradient against the lag and true and drawn spectrograms as figures; what
    was said and should have been said in the folder `clips`; and the trained networks, for
    `--predict "seven"` or, with a voice, `--predict "4 0 7 f2"`, which write a WAV file into the
    folder `said`. The default run takes about a minute on two CPU cores.
    """

    network: Literal[NETWORKS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What draws the frames."""
    features: int = 128
    """Hidden units of each layer."""
    steps: int = 1000
    learning_rate: float = 6e-3
    """Of Adam, at the start; it falls to zero along a cosine."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")

    def make_model(self):
        from rnnjax.layers import LinearHead
        from rnnjax.models import OneToMany

        layer = applications.network(self.network, self.features, window=1)
        return OneToMany(layer, LinearHead(MEL.bands + 1))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What is fitted on the training recordings."""

    mean: Any  # [M], of each band
    deviation: Any  # [M]
    voices: Any  # names
    length: int  # T, of the longest recording, in frames

    @classmethod
    def fit(cls, recordings):
        """Return what the recordings say."""
        frames = [MEL.frames(recording.samples) for recording in recordings]
        every = np.concatenate(frames)
        voices = sorted({recording.speaker for recording in recordings})
        return cls(
            every.mean(0).tolist(), every.std(0).tolist(), voices, max(len(f) for f in frames)
        )

    def contexts(self, digits, voices, speeds):
        """Return which digits, voices and speeds, `[N, C]`: ones among zeros, then the speed."""
        found = np.zeros((len(digits), 10 + len(self.voices) + 1), np.float32)
        rows = np.arange(len(digits))
        found[rows, [int(digit) for digit in digits]] = 1
        found[rows, [10 + self.voices.index(voice) for voice in voices]] = 1
        found[:, -1] = (np.array(speeds) - SPEED) / 30
        return found

    def targets(self, frames):
        """Return frames `[T, M]` as the network draws them, `[T, M + 1]`."""
        said = np.linspace(-1, 1, len(frames) + 1)[1:]
        scaled = (frames - np.array(self.mean)) / np.array(self.deviation)
        return np.append(scaled, SAID * said[:, None], axis=1).astype(np.float32)

    def frames(self, drawn):
        """Return the frames of what was drawn, `[T, M + 1]`, up to where (nearly) all is said."""
        said = np.minimum(drawn[:, -1], 0.96 * SAID)  # a frame is about 0.07 of it
        drawn = drawn[: said.argmax() + 1, :-1]
        frames = drawn * np.array(self.deviation) + np.array(self.mean)
        return np.maximum(frames, MEL.floor).astype(np.float32)


def clock(size, length):
    """Return what the network reads, `[size, length, 3]`: the time, and a wave of one second."""
    seconds = jnp.arange(length) * MEL.hop / MEL.rate
    hands = (
        seconds,
        jnp.sin(2 * jnp.pi * seconds),
        jnp.cos(2 * jnp.pi * seconds),
    )
    return jnp.broadcast_to(jnp.stack(hands, axis=1), (size, length, 3))


def make_train_step(model, optimizer):
    import optax

    from rnnjax.layers import masked_mean

    def train_step(state, batch):
        targets, lengths = batch["targets"], batch["lengths"]

        def loss_fn(params):
            time = clock(*targets.shape[:2])
            drawn = model.apply({"params": params}, batch["contexts"], time, seq_lengths=lengths)
            return masked_mean(model.head.loss(drawn, targets), lengths)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def draw_frames(model, length, params, contexts):
    """Return what the network draws, `[B, T, M + 1]`."""
    return model.apply({"params": params}, contexts, clock(len(contexts), length))


# --- how far two spectrograms are apart ---------------------------------------------------------


def distance(frames, others):
    """Return the mean absolute difference of two spectrograms along their best alignment, in dB.

    Source of the alignment: Sakoe, Chiba 1978, "Dynamic programming algorithm optimization for
    spoken word recognition".
    """
    import librosa

    apart = np.abs(frames[:, None] - others).mean(-1).astype(np.float64)
    _, path = librosa.sequence.dtw(C=apart)
    return apart[path[:, 0], path[:, 1]].mean()


def unaligned_distance(frames, others):
    """Return the mean absolute difference frame by frame, with silence behind the ends, in dB."""
    length = max(len(frames), len(others))
    one, other = (
        np.pad(f, ((0, length - len(f)), (0, 0)), constant_values=MEL.floor)
        for f in (frames, others)
    )
    return np.abs(one - other).mean()


def stretched(frames, length):
    """Return frames `[T, M]` as so many, linear in between."""
    places = np.linspace(0, len(frames) - 1, length)
    steps = np.arange(len(frames))
    return np.stack([np.interp(places, steps, band) for band in frames.T], axis=1)


def mean_frames(spectrograms):
    """Return the mean of spectrograms, each stretched to their mean length."""
    length = round(float(np.mean([len(frames) for frames in spectrograms])))
    return np.mean([stretched(frames, length) for frames in spectrograms], axis=0)


def baselines(train, train_frames, test):
    """Return by name what one would draw for the test recordings without a network."""
    pairs = list(zip(train, train_frames, strict=True))
    wanted = dict.fromkeys((r.digits, r.speed) for r in [*train, *test])
    means = {
        key: mean_frames([f for r, f in pairs if (r.digits, r.speed) == key]) for key in wanted
    }
    moves = {
        voice: np.mean(
            [f.mean(0) - means[r.digits, r.speed].mean(0) for r, f in pairs if r.speaker == voice],
            axis=0,
        )
        for voice in {r.speaker for r in test}
    }
    everything = mean_frames(train_frames)
    return {
        "mean of the digit": [means[r.digits, r.speed] for r in test],
        "mean of the digit, moved to the voice": [
            np.maximum(means[r.digits, r.speed] + moves[r.speaker], MEL.floor) for r in test
        ],
        "mean of everything": [everything for _ in test],
    }


def recognise(spectrograms, train, train_frames):
    """Return the digit of the training recording that is nearest to each spectrogram.

    Each is stretched to 16 frames and freed of its mean, so that pace and voice count less.
    """

    def shapes(spectrograms):
        found = np.stack([stretched(frames, 16) for frames in spectrograms])
        return (found - found.mean(axis=1, keepdims=True)).reshape(len(found), -1)

    known, asked = shapes(train_frames), shapes(spectrograms)
    squares = (known**2).sum(1) - 2 * asked @ known.T  # less what all have in common
    return [train[i].digits for i in squares.argmin(1)]


# --- the application ----------------------------------------------------------------------------


def measure(config, run):
    import optax

    train, test = (speech.load(SOURCE, split) for split in ("train", "test"))
    fitted = Fitted.fit(train)
    train_frames, frames = ([MEL.frames(r.samples) for r in part] for part in (train, test))
    columns, held_out = columns_of(fitted, train, train_frames), columns_of(fitted, test, frames)
    model = config.make_model()
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))
    width = columns["contexts"].shape[1]
    state = experiment.start(config, optimizer, functools.partial(initialise, model, width))
    pipelines = experiment.shuffled_batches(config, columns)
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    drawn = experiment.evaluate(
        functools.partial(draw_frames, model, fitted.length),
        params,
        {"contexts": held_out["contexts"]},
    )
    drawn = [[fitted.frames(one) for one in of_seed] for of_seed in drawn]  # [S][N]
    others = baselines(train, train_frames, test)
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    first = [i for i, r in enumerate(test) if r.speed == SPEED][:3]
    run.write_table("spectrograms", spectrograms(test, frames, drawn[0], first))
    write_clips(run, test, frames, drawn[0], first)
    experiment.save(run, params, dataclasses.asdict(fitted))

    def right(found):
        named = recognise(found, train, train_frames)
        return float(np.mean([a == r.digits for a, r in zip(named, test, strict=True)]))

    return experiment.report(
        "distance in dB",
        [mean_distance(distance, found, frames) for found in drawn],
        {name: mean_distance(distance, found, frames) for name, found in others.items()},
        higher_is_better=False,
        source=f"{speech.SOURCES[SOURCE]}; no pair of digit and voice of the test is in training",
        examples=[
            {
                "digit": r.digits,
                "voice": r.speaker,
                "words a minute": r.speed,
                "frames": len(frames[i]),
                "drawn": len(drawn[0][i]),
                "distance": round(float(distance(drawn[0][i], frames[i])), 2),
            }
            for i, r in list(enumerate(test))[:: len(test) // 6 - 1]
        ],
        unaligned=[mean_distance(unaligned_distance, found, frames) for found in drawn],
        unaligned_of_baselines={
            name: mean_distance(unaligned_distance, found, frames) for name, found in others.items()
        },
        frames_too_many_or_few=[
            mean_distance(lambda one, other: abs(len(one) - len(other)), found, frames)
            for found in drawn
        ],
        recognised_by_nearest_neighbour=[right(found) for found in drawn],
        true_recordings_recognised=right(frames),
        network=config.network,
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )


def mean_distance(between, found, frames):
    """Return the mean of `between` over pairs of spectrograms."""
    return float(np.mean([between(one, other) for one, other in zip(found, frames, strict=True)]))


def columns_of(fitted, recordings, frames):
    """Return recordings as `contexts [N, C]` and padded `targets [N, T, M + 1]`, with lengths."""
    targets, lengths = batches.pad([fitted.targets(one) for one in frames])
    said = zip(*((r.digits, r.speaker, r.speed) for r in recordings), strict=True)
    return {"contexts": fitted.contexts(*said), "targets": targets, "lengths": lengths}


def initialise(model, width, key):
    return model.init(key, jnp.zeros((1, width)), clock(1, 1))["params"]


def gradients(model, params, held_out):
    """Return the table of the gradient of the last frame's loss, in the longest recordings."""
    rows = np.argsort(-held_out["lengths"], kind="stable")[:32]
    lengths = held_out["lengths"][rows]
    contexts, targets = (jnp.asarray(held_out[name][rows]) for name in ("contexts", "targets"))
    last = np.arange(len(rows)), lengths - 1

    def loss(drawn):
        return model.head.loss(drawn[last], targets[last]).sum()

    time = clock(len(rows), targets.shape[1])
    profiles = experiment.log_gradients(model, params, loss, contexts, time, seq_lengths=lengths)
    return experiment.gradient_table(profiles, lengths)


def spectrograms(test, frames, drawn, chosen):
    """Return the parts of a table: true and drawn spectrograms of the chosen recordings."""
    parts = []
    for i in chosen:
        name = f"{speech.WORDS[int(test[i].digits)]}, {test[i].speaker}"
        for kind, found in (("true", frames[i]), ("drawn", drawn[i])):
            time, band = (places.ravel() for places in np.indices(found.shape))
            panel = f"{name}: {kind}"
            parts.append({"panel": panel, "frame": time, "band": band, "decibel": found.ravel()})
    return parts


def write_clips(run, test, frames, drawn, chosen):
    """Write what was said and what should have been, both by way of frames, as WAV files."""
    folder = run.file("clips")
    folder.mkdir(exist_ok=True)
    for i in chosen:
        name = f"{test[i].digits}_{test[i].speaker}"
        audio.write_wav(folder / f"{name}_true.wav", test[i].samples)
        audio.write_wav(folder / f"{name}_true_frames.wav", MEL.samples(frames[i]))
        audio.write_wav(folder / f"{name}_drawn.wav", MEL.samples(drawn[i]))


def asked_for(line, voices):
    """Return the digits and the voice in a line such as "four 0 7 f2"; m1 if none is named."""
    words = line.split()
    voice = words.pop() if words and words[-1] in voices else "m1"
    try:
        digits = speech.digits_of(" ".join(words))
    except ValueError as error:
        named = ", ".join(voices)
        raise ArgumentError(f"--predict: {error}; a voice may follow: {named}") from None
    if len(digits) > LONGEST:
        raise ArgumentError(f"--predict says at most {LONGEST} digits, got {len(digits)}")
    return digits, voice


def answer(config, run, asked):
    """Yield the name of a WAV file for each line: digits or their names, then perhaps a voice."""
    fitted = Fitted(**run.read_json("preprocessing.json"))
    requests = [asked_for(line, fitted.voices) for line in experiment.lines(asked)]
    model: Any = config.make_model()
    width = 10 + len(fitted.voices) + 1
    init = functools.partial(initialise, model, width)
    params = experiment.restore(run, init, members=config.seeds)
    folder = run.file("said")
    folder.mkdir(exist_ok=True)
    for digits, voice in requests:
        count = len(digits)
        contexts = jnp.asarray(fitted.contexts(digits, [voice] * count, [SPEED] * count))
        drawn = np.asarray(draw_frames(model, fitted.length, params, contexts))
        sound = [MEL.samples(fitted.frames(one)) for one in drawn]
        path = folder / f"{digits}_{voice}.wav"
        audio.write_wav(path, np.concatenate(sound))
        yield str(path)


def draw(run):
    """Draw the figures that every application has, and true beside drawn spectrograms."""
    from rnnjax import figures

    applications.draw(run)
    figure = figures.heat_maps(
        run.read_table("spectrograms"),
        x="frame",
        y="band",
        value="decibel",
        panel="panel",
        xlabel="frame",
        ylabel="mel band",
        label="power in dB",
    )
    run.save_figure("spectrograms", figure)


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("speech_synthesis", config, measured, answer, draw)


if __name__ == "__main__":
    main(Config, run)
