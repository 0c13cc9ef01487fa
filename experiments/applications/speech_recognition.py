"""Speech recognition: which digits a recording contains, without knowing when they are said.

Claim: connectionist temporal classification teaches a recurrent network to transcribe recordings
from transcripts that say what was said, not when. Many-to-many: at every frame the network names a
digit or the blank; repetitions are merged, then blanks dropped. The inputs are log-mel frames, with
noise added in training as in the source: Graves, Fernandez, Gomez, Schmidhuber 2006, "Connectionist
temporal classification".

The default recordings are synthetic speech by espeak-ng, demonstration scale: their numbers say
nothing about people. `--source speech_commands` has real ones, single digits (2.4 GB).

Metric: digit error rate, the edit distance between what was said and what was written over the
number of digits said, for speakers that occur nowhere in training. Baseline: the best constant
answer, the string of at most two digits that makes the fewest errors in training.

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds.

This file has more than 200 lines because what is heard has no fixed place in time: the gradient,
the alignment and the transcripts have to find it first.

    python experiments/applications/speech_recognition.py --out runs/digits
    python experiments/applications/speech_recognition.py --out runs/digits --predict said.wav
    python experiments/applications/speech_recognition.py --source speech_commands --steps 3000
"""

import dataclasses
import functools
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.datasets import batches, speech
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.transcripts import best_constant, error_rate

MEL = audio.LogMel()  # 20 ms from frame to frame
BLANK = 0  # the label of digit d is d + 1
SOURCES = "espeak", "speech_commands"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Write down the digits in recordings of speakers who do not occur in training.

    Prints and writes summary.json: the digit error rate beside that of the best constant answer,
    and examples. Draws the gradient against the lag, and the probabilities of the digits over time.
    Writes some recordings of held-out speakers to the folder `clips`. Saves the trained networks
    for `--predict FILE.wav`. The default run takes about a minute on two CPU cores.
    """

    source: Literal[SOURCES] = "espeak"  # pyright: ignore[reportInvalidTypeForm]
    """The recordings: synthetic strings of digits, or real single ones, which are downloaded."""
    network: str = "bidirectional_gru"
    noise: float = 0.6
    """Standard deviation of the noise on the normalised frames in training."""
    beam_width: int = 8
    """Hypotheses that the beam search keeps."""
    steps: int = 350

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "beam_width")
        at_least(0, self, "noise")

    def make_model(self):
        from rnnjax.layers import SoftmaxHead
        from rnnjax.models import ManyToMany

        return ManyToMany(self.make_layer(window=50), SoftmaxHead(11))


def centred_frames(recording):
    """Return the log-mel frames `[T, M]` of samples minus their mean, which depends on the voice.

    Source: Atal 1974, "Effectiveness of linear prediction characteristics of the speech wave for
    automatic speaker identification and verification".
    """
    frames = MEL.frames(recording)
    return frames - frames.mean(axis=0) if len(frames) else frames


def fit_deviation(recordings):
    """Return the standard deviation of each mel band over recordings, `[M]`."""
    frames = np.concatenate([centred_frames(r.samples) for r in recordings])
    return frames.std(axis=0).astype(np.float32)


def examples(recordings, deviation):
    """Return recordings as padded `inputs [N, T, M]` and `labels [N, U]`, with their lengths."""
    inputs, lengths = batches.pad([centred_frames(r.samples) / deviation for r in recordings])
    labels = [np.array([int(digit) + 1 for digit in r.digits], np.int32) for r in recordings]
    labels, label_lengths = batches.pad(labels)
    named = {"inputs": inputs, "lengths": lengths}
    return {**named, "labels": labels, "label_lengths": label_lengths}


def make_train_step(model, optimizer, noise):
    import optax

    from rnnjax.models import ctc_loss

    def train_step(state, batch):
        key, now = jax.random.split(state.key)
        inputs = batch["inputs"] + noise * jax.random.normal(now, batch["inputs"].shape)
        lengths = {"seq_lengths": batch["lengths"]}

        def loss_fn(params):
            logits = model.apply({"params": params}, inputs, **lengths)
            counts = {**lengths, "label_lengths": batch["label_lengths"]}
            return ctc_loss(logits, batch["labels"], **counts).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1, key=key)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(model, key):
    return model.init(key, jnp.zeros((1, 1, MEL.bands)))["params"]


def listen(model, beam_width, params, inputs, lengths):
    """Return the most probable labels `[B, T]` by beam search, and those of the best path."""
    logits = model.apply({"params": params}, inputs, seq_lengths=lengths)
    found = decoding.ctc_beam_search(logits, beam_width=beam_width, seq_lengths=lengths)
    return {
        "beam": found[0][:, 0],
        "best path": decoding.ctc_greedy(logits, seq_lengths=lengths)[0],
    }


def written(labels):
    """Return the digits of labels; blanks follow their end."""
    return "".join(str(label - 1) for label in np.asarray(labels).tolist() if label != BLANK)


def measure(config, run):
    import optax

    train, test = (speech.load(config.source, split) for split in ("train", "test"))
    deviation = fit_deviation(train)
    columns, held_out = examples(train, deviation), examples(test, deviation)
    model = config.make_model()

    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    pipelines = experiment.shuffled_batches(config, columns)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.noise)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    listened = experiment.evaluate(
        functools.partial(listen, model, config.beam_width),
        params,
        {name: held_out[name] for name in ("inputs", "lengths")},
    )
    answers = {
        way: [[written(row) for row in rows] for rows in labels] for way, labels in listened.items()
    }  # [S][N] by way
    truths = [recording.digits for recording in test]
    constant = best_constant([recording.digits for recording in train])
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    run.write_table("alignment", alignment(model, params, held_out))
    write_clips(run, test)
    experiment.save(run, params, {"deviation": deviation.tolist()})
    name = f"best constant answer, {constant or 'nothing'}"
    return experiment.report(
        "digit error rate",
        [error_rate(found, truths) for found in answers["beam"]],
        {name: error_rate([constant] * len(truths), truths)},
        higher_is_better=False,
        source=f"{speech.SOURCES[config.source]}; no speaker of the test is in training",
        examples=[
            {"speaker": r.speaker, "said": r.digits, "written": answers["beam"][0][i]}
            for i, r in itertools.islice(enumerate(test), 0, None, len(test) // 8 + 1)
        ],
        without_beam=[error_rate(found, truths) for found in answers["best path"]],
        whole_strings_right=[
            float(np.mean([a == b for a, b in zip(found, truths, strict=True)]))
            for found in answers["beam"]
        ],
        whole_strings_right_of_constant=truths.count(constant) / len(truths),
        **by_speaker(config, answers["beam"], test),
        network=config.network,
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
    )


def by_speaker(config, answers, test):
    """Return the error rate of each held-out speaker over all seeds, if the speakers are few."""
    if config.source != "espeak":
        return {}
    rates = {}
    for speaker in sorted({recording.speaker for recording in test}):
        rows = [i for i, recording in enumerate(test) if recording.speaker == speaker]
        found = [seed[i] for seed in answers for i in rows]
        rates[speaker] = error_rate(found, [test[i].digits for i in rows] * len(answers))
    return {"error_rate_by_speaker": rates}


def log_chances(model, params, inputs, lengths):
    """Return the first network's ln p(label) at every frame, `[B, T, 11]`."""
    variables = {"params": experiment.member(params, 0)}
    return jax.nn.log_softmax(model.apply(variables, inputs, seq_lengths=lengths))


def gradients(model, params, held_out):
    """Return the table of the gradient of naming the last digit, in the longest strings.

    The loss is that of the frame where the first network is surest of that digit; lags count back
    from there.
    """
    counts = held_out["label_lengths"]
    rows = np.flatnonzero(counts == counts.max())[:32]
    inputs, lengths = held_out["inputs"][rows], held_out["lengths"][rows]
    last = jnp.asarray(held_out["labels"][rows, counts[rows] - 1])
    chances = np.asarray(log_chances(model, params, inputs, lengths))
    there = np.arange(inputs.shape[1]) < lengths[:, None]
    named = np.where(there, chances[np.arange(len(rows)), :, np.asarray(last)], -np.inf).argmax(1)

    def loss(logits):
        return model.head.loss(logits[np.arange(len(rows)), named], last).sum()

    profiles = experiment.log_gradients(model, params, loss, inputs, seq_lengths=lengths)
    return experiment.gradient_table(profiles, named + 1)


def alignment(model, params, held_out):
    """Return the parts of a table: p(label) over time in the first of the longest strings."""
    counts = held_out["label_lengths"]
    row = int(np.argmax(counts))
    length = held_out["lengths"][row]
    frames = held_out["inputs"][row : row + 1, :length]
    chances = np.exp(np.asarray(log_chances(model, params, frames, None)[0], np.float64))
    seconds = np.arange(length) * MEL.hop / MEL.rate
    said = dict.fromkeys(held_out["labels"][row, : counts[row]].tolist())
    names = {label: f"digit {label - 1}" for label in said} | {BLANK: "blank"}
    return [
        {"label": name, "seconds": seconds, "median": chances[:, label]}
        for label, name in names.items()
    ]


def write_clips(run, test):
    """Write four recordings of different speakers, named after them and what they say."""
    folder = run.file("clips")
    folder.mkdir(exist_ok=True)
    speakers = dict.fromkeys(recording.speaker for recording in test)
    for place, speaker in enumerate(list(speakers)[:4]):
        own = [recording for recording in test if recording.speaker == speaker]
        clip = own[min(place + 1, len(own) - 1)]
        audio.write_wav(folder / f"{clip.digits}_{speaker}.wav", clip.samples)


def draw(run):
    """Draw the figures of every application, and the probabilities of the digits over time."""
    from rnnjax import figures

    experiment.draw(run)
    figure = figures.curves(
        run.read_table("alignment"),
        x="seconds",
        series="label",
        xlabel="time in s",
        ylabel="probability",
    )
    run.save_figure("alignment", figure)


def answer(config, run, asked):
    """Yield the digits said in a WAV file."""
    samples = experiment.read_file(asked, "a WAV file", audio.read_wav)
    if not len(samples):
        raise ArgumentError(f"--predict: {asked} holds no sound")
    deviation = np.array(run.read_json("preprocessing.json")["deviation"], np.float32)
    inputs = (centred_frames(samples) / deviation)[None]
    model: Any = config.make_model()
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    lengths = np.array([inputs.shape[1]], np.int32)
    (labels,) = listen(model, config.beam_width, params, inputs, lengths)["beam"]
    yield written(labels) or "no digit"


run = experiment.Experiment(
    "speech_recognition",
    Config,
    measure,
    experiment.beats_baseline,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
