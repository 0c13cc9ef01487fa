"""Speech synthesis: say a digit with a voice that never says it in training.

Claim: a recurrent network that starts from one vector, which digit and which voice, generates the
spectrogram frame by frame, and so separates the digit from the voice that says it. One-to-many: the
vector sets the first state. At every step the network reads a clock, not its previous frame:
nothing is fed back, so errors do not accumulate. It generates 40 log-mel bands in dB and how much
of the digit has been said, which ends it. The algorithm of Griffin and Lim turns frames into sound.
Source: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555 (for images and words).

The voices are variants of the synthesiser espeak-ng: synthetic speech, demonstration scale.

Metric: distance in dB between generated and true frames, the mean absolute difference along the
best alignment in time (dynamic time warping), for pairs of digit and voice not in training.
Baselines: the mean spectrogram of the same digit over the training voices at the same speed; that
mean shifted by the voice's mean deviation from such means in each band; and the mean of everything.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds.

This file has more than 200 lines because spectrograms are coded both ways, into targets of the
network and back into sound, and because the baselines are spectrograms too.

    python experiments/applications/speech_synthesis.py --out runs/voices
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "seven"
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "four 0 7 f2"
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment
from rnnjax.command_line import ArgumentError
from rnnjax.datasets import batches, speech
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.spectrograms import distance, mean_frames, nearest, unaligned_distance

MEL = audio.LogMel(window=512, hop=128)  # 16 ms from frame to frame
SOURCE = "espeak_digits"
SAID = 4.0  # the clock that the network generates runs from -SAID to SAID; it counts in the loss
SPEED = 160  # words per minute
LONGEST = 20  # digits that --predict says at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.WriterOptions):
    """Say digits with voices that never say them in training, and compare with mean digits.

    Prints and writes summary.json: the distance from the true frames in dB beside those of mean
    digits, and examples. Draws true and generated spectrograms, and the gradient against the lag.
    Writes recordings to the folder `clips`. Saves the trained networks for `--predict "seven"` or,
    with a voice, `--predict "4 0 7 f2"`, which write a WAV file into the folder `said`. The default
    run takes about a minute on two CPU cores.
    """

    features: int = 128
    steps: int = 1000
    learning_rate: float = 6e-3
    """Initial step size of the Adam optimiser; it decays to zero along a cosine."""

    def make_model(self):
        from rnnjax.layers import LinearHead
        from rnnjax.models import OneToMany

        return OneToMany(self.make_layer(), LinearHead(MEL.bands + 1))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What is fitted on the training recordings, and the coding that follows from it."""

    mean: Any  # [M], of each band
    deviation: Any  # [M]
    voices: Any  # names
    length: int  # T, of the longest recording, in frames

    @classmethod
    def fit(cls, recordings):
        """Return what is fitted on recordings."""
        frames = [MEL.frames(recording.samples) for recording in recordings]
        every = np.concatenate(frames)
        voices = sorted({recording.speaker for recording in recordings})
        return cls(
            every.mean(0).tolist(), every.std(0).tolist(), voices, max(len(f) for f in frames)
        )

    def contexts(self, digits, voices, speeds):
        """Return `[N, C]`: the digit and the voice one-hot, then the speed."""
        found = np.zeros((len(digits), 10 + len(self.voices) + 1), np.float32)
        rows = np.arange(len(digits))
        found[rows, [int(digit) for digit in digits]] = 1
        found[rows, [10 + self.voices.index(voice) for voice in voices]] = 1
        found[:, -1] = (np.array(speeds) - SPEED) / 30
        return found

    def targets(self, frames):
        """Return frames `[T, M]` as targets of the network, `[T, M + 1]`."""
        said = np.linspace(-1, 1, len(frames) + 1)[1:]
        scaled = (frames - np.array(self.mean)) / np.array(self.deviation)
        return np.append(scaled, SAID * said[:, None], axis=1).astype(np.float32)

    def frames(self, drawn):
        """Return the frames of a network's output `[T, M + 1]`, until (nearly) all is said."""
        said = np.minimum(drawn[:, -1], 0.96 * SAID)  # a frame is about 0.07 of it
        drawn = drawn[: said.argmax() + 1, :-1]
        frames = drawn * np.array(self.deviation) + np.array(self.mean)
        return np.maximum(frames, MEL.floor).astype(np.float32)


def clock(size, length):
    """Return the inputs `[size, length, 3]`: the time in s, and a wave with a period of 1 s."""
    seconds = jnp.arange(length) * MEL.hop / MEL.rate
    hands = seconds, jnp.sin(2 * jnp.pi * seconds), jnp.cos(2 * jnp.pi * seconds)
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


def initialise(model, width, key):
    return model.init(key, jnp.zeros((1, width)), clock(1, 1))["params"]


def draw_frames(model, length, params, contexts):
    """Return the outputs of the network, `[B, T, M + 1]`."""
    return model.apply({"params": params}, contexts, clock(len(contexts), length))


def baselines(train, train_frames, test):
    """Return the spectrograms of the baselines for the test recordings, by name."""
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


def measure(config, run):
    import optax

    train, test = (speech.load(SOURCE, split) for split in ("train", "test"))
    fitted = Fitted.fit(train)
    train_frames, frames = ([MEL.frames(r.samples) for r in part] for part in (train, test))
    columns, held_out = columns_of(fitted, train, train_frames), columns_of(fitted, test, frames)
    model = config.make_model()

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    examples = experiment.shuffled_batches(config, columns)
    init = functools.partial(initialise, model, columns["contexts"].shape[1])
    state = experiment.start(config, optimizer, init)
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

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
        named = [train[i].digits for i in nearest(found, train_frames)]
        return float(np.mean([a == r.digits for a, r in zip(named, test, strict=True)]))

    unaligned = functools.partial(unaligned_distance, floor=MEL.floor)
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
                "words per minute": r.speed,
                "frames": len(frames[i]),
                "drawn": len(drawn[0][i]),
                "distance": round(float(distance(drawn[0][i], frames[i])), 2),
            }
            for i, r in list(enumerate(test))[:: len(test) // 6 - 1]
        ],
        unaligned=[mean_distance(unaligned, found, frames) for found in drawn],
        unaligned_of_baselines={
            name: mean_distance(unaligned, found, frames) for name, found in others.items()
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
    """Return the parts of a table: true and generated spectrograms of the chosen recordings."""
    parts = []
    for i in chosen:
        name = f"{speech.WORDS[int(test[i].digits)]}, {test[i].speaker}"
        for kind, found in (("true", frames[i]), ("drawn", drawn[i])):
            time, band = (places.ravel() for places in np.indices(found.shape))
            panel = f"{name}: {kind}"
            parts.append({"panel": panel, "frame": time, "band": band, "decibel": found.ravel()})
    return parts


def write_clips(run, test, frames, drawn, chosen):
    """Write WAV files: the recordings, the sound of their true frames and of the generated ones."""
    folder = run.file("clips")
    folder.mkdir(exist_ok=True)
    for i in chosen:
        name = f"{test[i].digits}_{test[i].speaker}"
        audio.write_wav(folder / f"{name}_true.wav", test[i].samples)
        audio.write_wav(folder / f"{name}_true_frames.wav", MEL.samples(frames[i]))
        audio.write_wav(folder / f"{name}_drawn.wav", MEL.samples(drawn[i]))


def draw(run):
    """Draw the figures of every application, and true beside generated spectrograms."""
    from rnnjax import figures

    experiment.draw(run)
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


def asked_for(line, voices):
    """Return the digits and the voice in a line such as "four 0 7 f2"; the default voice is m1."""
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
    """Yield the path of a WAV file for each line: digits or their names, optionally a voice."""
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


run = experiment.Experiment(
    "speech_synthesis",
    Config,
    measure,
    experiment.beats_baseline,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
