"""Speech synthesis: say a digit with a voice that never says it in training.

Claim: a recurrent network that starts from one vector, which digit and which voice, generates the
spectrogram frame by frame, and so separates the digit from the voice that says it. One-to-many: the
vector sets the first state. At every step the network reads a clock, not its previous frame:
nothing is fed back, so errors do not accumulate. It generates 40 log-mel bands in dB and how much
of the digit has been said, which ends it. The algorithm of Griffin and Lim turns frames into sound.
Source: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555 (for images and words). The
voices are variants of the synthesiser espeak-ng: synthetic speech, demonstration scale.

Metric: distance in dB between generated and true frames, the mean absolute difference along the
best alignment in time (dynamic time warping), for pairs of digit and voice not in training.
Baselines: the mean spectrogram of the same digit over the training voices at the same speed; that
mean shifted by the voice's mean deviation from such means in each band; and the mean of everything.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds;
`quick run only` if --steps or --seeds is below its default.

    python experiments/applications/speech_synthesis.py --out runs/voices
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "seven"
    python experiments/applications/speech_synthesis.py --out runs/voices --predict "four 0 7 f2"
"""

import dataclasses
import functools
from typing import Any

from rnnjax import experiment
from rnnjax.command_line import as_argument_error
from rnnjax.datasets import speech
from rnnjax.datasets.speech import audio, spectrograms
from rnnjax.datasets.speech.coding import MEL, SPEED, Coding, clock
from rnnjax.datasets.speech.mean_digits import mean_digits
from rnnjax.experiment import beats_baseline, show_report

import jax
import jax.numpy as jnp
import numpy as np

SOURCE = "espeak_digits"


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


def make_train_step(model, optimizer):
    from rnnjax.layers import masked_mean

    import optax

    def train_step(state, batch):
        targets, lengths = batch["targets"], batch["lengths"]

        def loss_fn(params):
            inputs = batch["contexts"], clock(*targets.shape[:2])
            outputs = model.apply({"params": params}, *inputs, seq_lengths=lengths)
            return masked_mean(model.head.loss(outputs, targets), lengths)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(model, width, key):
    return model.init(key, jnp.zeros((1, width)), clock(1, 1))["params"]


def generate(model, length, params, contexts):
    """Return the outputs of the network, `[B, T, M + 1]`."""
    return model.apply({"params": params}, contexts, clock(len(contexts), length))


def measure(config, run):
    import optax

    train, test = (speech.load(SOURCE, split) for split in ("train", "test"))
    coding, model = Coding.fit(train), config.make_model()
    train_frames, frames = ([MEL.frames(r.samples) for r in part] for part in (train, test))
    columns, held_out = coding.columns(train, train_frames), coding.columns(test, frames)

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    examples = experiment.shuffled_batches(config, columns)
    state = experiment.start(config, optimizer, functools.partial(initialise, model, coding.width))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    generating = functools.partial(generate, model, coding.length)
    outputs = experiment.evaluate(generating, params, {"contexts": held_out["contexts"]})
    drawn = [list(map(coding.frames, own)) for own in outputs]  # [S][N]
    score = functools.partial(spectrograms.mean_distances, others=frames, floor=MEL.floor)
    scores, baselines = list(map(score, drawn)), mean_digits(train, train_frames, test, MEL.floor)
    simple = {name: score(found) for name, found in baselines.items()}
    truths, names = [r.digits for r in test], [r.digits for r in train]
    known = {"labels": truths, "known": train_frames, "names": names}
    recognised = functools.partial(spectrograms.recognised, **known)
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    save_examples(run, test, frames, drawn[0])
    experiment.save(run, params, dataclasses.asdict(coding))

    return experiment.report(
        "distance in dB",
        [own["aligned"] for own in scores],
        {name: own["aligned"] for name, own in simple.items()},
        higher_is_better=False,
        source=f"{speech.SOURCES[SOURCE]}; no pair of digit and voice of the test is in training",
        examples=[
            {"digit": r.digits, "voice": r.speaker, "words per minute": r.speed}
            | {"frames": len(frames[i]), "drawn": len(drawn[0][i])}
            | {"distance": round(float(spectrograms.distance(drawn[0][i], frames[i])), 2)}
            for i, r in list(enumerate(test))[:: len(test) // 6 - 1]
        ],
        unaligned=[own["unaligned"] for own in scores],
        unaligned_of_baselines={name: own["unaligned"] for name, own in simple.items()},
        frames_too_many_or_few=[own["length"] for own in scores],
        recognised_by_nearest_neighbour=list(map(recognised, drawn)),
        true_recordings_recognised=recognised(frames),
        **experiment.network_entries(config, params, table),
    )


def gradients(model, params, held_out):
    """Return the table of the gradient of the last frame's loss, in the longest recordings."""
    rows = experiment.longest(held_out["lengths"])
    contexts, targets, lengths = (column[rows] for column in held_out.values())
    last = targets[np.arange(len(rows)), lengths - 1]
    inputs = contexts, clock(*targets.shape[:2])
    options = {"steps": lengths - 1, "seq_lengths": lengths}
    return experiment.loss_gradients(model, params, last, *inputs, **options)


def save_examples(run, test, frames, drawn):
    """Write three true and generated spectrograms as a table, and their sound as WAV files."""
    panels, clips = {}, {}
    for i in [i for i, recording in enumerate(test) if recording.speed == SPEED][:3]:
        digit, voice = test[i].digits, test[i].speaker
        panels[f"{speech.WORDS[int(digit)]}, {voice}: true"] = frames[i]
        panels[f"{speech.WORDS[int(digit)]}, {voice}: drawn"] = drawn[i]
        clips[f"{digit}_{voice}_true"] = test[i].samples
        clips[f"{digit}_{voice}_true_frames"] = MEL.samples(frames[i])
        clips[f"{digit}_{voice}_drawn"] = MEL.samples(drawn[i])
    run.write_table("spectrograms", spectrograms.spectrogram_table(panels))
    audio.write_clips(run.file("clips"), clips)


def draw(run):
    """Draw the figures of every application, and true beside generated spectrograms."""
    experiment.draw(run)
    axes: dict = {"xlabel": "frame", "ylabel": "mel band", "panel": "panel", "label": "power in dB"}
    experiment.draw_heat_maps(run, "spectrograms", "frame", "band", "decibel", **axes)


def answer(config, run, asked):
    """Yield the path of a WAV file for each line: digits or their names, optionally a voice."""
    coding = Coding(**run.read_json("preprocessing.json"))
    parse = functools.partial(speech.parse_request, voices=coding.voices, voice="m1", longest=20)
    with as_argument_error("--predict"):
        requests = list(map(parse, experiment.lines(asked)))
    model: Any = config.make_model()
    init = functools.partial(initialise, model, coding.width)
    params = experiment.restore(run, init, members=config.seeds)
    for digits, voice in requests:
        contexts = coding.contexts(digits, [voice] * len(digits), [SPEED] * len(digits))
        outputs = np.asarray(generate(model, coding.length, params, jnp.asarray(contexts)))
        sound = np.concatenate([MEL.samples(coding.frames(own)) for own in outputs])
        (path,) = audio.write_clips(run.file("said"), {f"{digits}_{voice}": sound})
        yield str(path)


run = experiment.Experiment(
    "speech_synthesis", Config, measure, beats_baseline, draw, show=show_report, answer=answer
)

if __name__ == "__main__":
    run.main()
