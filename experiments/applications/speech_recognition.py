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

Verdict: `reproduced` if the network beats the baseline by more than the spread over seeds; `quick
run only` if --steps or --seeds is below its default.

This file has more than 200 lines because what is heard has no fixed place in time: the frame of a
digit has to be found before its gradient can be measured, and transcripts before they are scored.

    python experiments/applications/speech_recognition.py --out runs/digits
    python experiments/applications/speech_recognition.py --out runs/digits --predict said.wav
    python experiments/applications/speech_recognition.py --source speech_commands --steps 3000
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import decoding, experiment
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.datasets import batches, speech
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.normalised import centred_frames, columns, fit_deviation
from rnnjax.datasets.speech.transcripts import best_constant, error_rate, error_rates, written
from rnnjax.experiment import beats_baseline, show_report

import jax
import jax.numpy as jnp
import numpy as np

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


def make_train_step(model, optimizer, noise):
    from rnnjax.models import ctc_loss

    import optax

    def train_step(state, batch):
        key, now = jax.random.split(state.key)
        inputs = batch["inputs"] + noise * jax.random.normal(now, batch["inputs"].shape)
        lengths = {"seq_lengths": batch["lengths"], "label_lengths": batch["label_lengths"]}

        def loss_fn(params):
            logits = model.apply({"params": params}, inputs, seq_lengths=batch["lengths"])
            return ctc_loss(logits, batch["labels"], **lengths).mean()

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
    path, _ = decoding.ctc_greedy(logits, seq_lengths=lengths)
    return {"beam": found[0][:, 0], "best path": path}


def measure(config, run):
    import optax

    train, test = (speech.load(config.source, split) for split in ("train", "test"))
    deviation = fit_deviation(train, MEL)
    examples, held_out = (columns(part, MEL, deviation) for part in (train, test))
    model = config.make_model()

    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    pipelines = experiment.shuffled_batches(config, examples)
    state = experiment.start(config, optimizer, functools.partial(initialise, model))
    step = make_train_step(model, optimizer, config.noise)
    params = experiment.fit(config, run, step, state, pipelines, label=config.network).params

    heard = {name: held_out[name] for name in ("inputs", "lengths")}
    labels = experiment.evaluate(functools.partial(listen, model, config.beam_width), params, heard)
    answers = {way: [list(map(written, own)) for own in rows] for way, rows in labels.items()}
    truths, speakers = [r.digits for r in test], [r.speaker for r in test]
    by_speaker = {"error_rate_by_speaker": error_rates(answers["beam"], truths, speakers)}
    constant = best_constant([recording.digits for recording in train])
    table = gradients(model, params, held_out)
    run.write_table("gradients", table)
    run.write_table("alignment", alignment(model, params, held_out))
    clips = {f"{r.digits}_{r.speaker}": r.samples for r in speech.of_each_speaker(test, 4)}
    audio.write_clips(run.file("clips"), clips)
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
            for i, r in list(enumerate(test))[:: len(test) // 8 + 1]
        ],
        without_beam=[error_rate(found, truths) for found in answers["best path"]],
        whole_strings_right=[float((np.array(a) == truths).mean()) for a in answers["beam"]],
        whole_strings_right_of_constant=truths.count(constant) / len(truths),
        **(by_speaker if config.source == "espeak" else {}),  # the others have thousands
        **experiment.network_entries(config, params, table),
    )


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
    last = held_out["labels"][rows, counts[rows] - 1]
    chances = np.asarray(log_chances(model, params, inputs, lengths))
    chances = chances[np.arange(len(rows)), :, last]  # [B, T]
    surest = np.where(batches.valid(lengths, inputs.shape[1]), chances, -np.inf).argmax(1)
    return experiment.loss_gradients(model, params, last, inputs, steps=surest, seq_lengths=lengths)


def alignment(model, params, held_out):
    """Return the parts of a table: p(label) over time in the first of the longest strings."""
    counts = held_out["label_lengths"]
    row = int(np.argmax(counts))
    length = held_out["lengths"][row]
    frames = held_out["inputs"][row : row + 1, :length]
    chances = np.exp(np.asarray(log_chances(model, params, frames, None)[0], np.float64))
    seconds = np.arange(length) * MEL.hop / MEL.rate
    names = {d + 1: f"digit {d}" for d in range(10)} | {BLANK: "blank"}
    shown = dict.fromkeys([*held_out["labels"][row, : counts[row]].tolist(), BLANK])
    return [{"label": names[k], "seconds": seconds, "median": chances[:, k]} for k in shown]


def draw(run):
    """Draw the figures of every application, and the probabilities of the digits over time."""
    experiment.draw(run)
    experiment.draw_curves(
        run, "alignment", "seconds", "label", xlabel="time in s", ylabel="probability"
    )


def answer(config, run, asked):
    """Yield the digits said in a WAV file."""
    samples = experiment.read_file(asked, "a WAV file", audio.read_wav)
    if not len(samples):
        raise ArgumentError(f"--predict: {asked} holds no sound")
    deviation = np.array(run.read_json("preprocessing.json")["deviation"], np.float32)
    inputs = (centred_frames(samples, MEL) / deviation)[None]
    model: Any = config.make_model()
    params = experiment.restore(run, functools.partial(initialise, model), members=config.seeds)
    lengths = np.array([inputs.shape[1]], np.int32)
    (labels,) = listen(model, config.beam_width, params, inputs, lengths)["beam"]
    yield written(labels) or "no digit"


run = experiment.Experiment(
    "speech_recognition", Config, measure, beats_baseline, draw, show=show_report, answer=answer
)

if __name__ == "__main__":
    run.main()
