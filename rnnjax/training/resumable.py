"""Training within a run directory: it writes metrics, saves checkpoints, and can be resumed."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.checkpoint import Checkpoints
from rnnjax.runs import Run
from rnnjax.training.history import ChunkRecord, join_chunks, load_chunks, save_chunk
from rnnjax.training.iterators import positions, restore_positions
from rnnjax.training.loop import (
    Chunk,
    TrainState,
    TrainStep,
    chunk_ends,
    chunk_stops,
    compiled_meanwhile,
    prepare_batches,
    prepare_samples,
    run_chunks,
)
from rnnjax.training.multihost import any_process, is_first_process, on_first_process
from rnnjax.training.platforms import compare_platform, platform
from rnnjax.training.population import gather, shard_population
from rnnjax.training.stopped import file_name, save_stopped
from rnnjax.training.termination import TerminatedError, note_sigterm

PyTree = Any
Until = Callable[[TrainState], Any]
METADATA = "iterators", "active", "platform"  # of a checkpoint
LONGEST_CHUNK = 100  # updates after which progress is shown and SIGTERM noticed, at the latest


class ResumeError(Exception):
    """A run cannot be resumed; the message says why and what to do."""


class TrainingResult(NamedTuple):
    """What a resumable training returns."""

    state: TrainState  # the last good one of members that have stopped
    before: PyTree  # returned by `observe` before the first step
    chunks: list[ChunkRecord]

    def observed(self) -> dict[int, PyTree]:
        """Return what `observe` returned, by step; step 0 is before training."""
        return {0: self.before} | {chunk.step: chunk.observed for chunk in self.chunks}


class _Position(NamedTuple):
    """Where a training starts or resumes."""

    step: int
    state: TrainState
    active: np.ndarray  # [S], members that have not stopped
    chunks: list[ChunkRecord]  # complete chunks up to `step`
    parts: list[Any]  # of the chunk that `step` interrupts


@dataclasses.dataclass(frozen=True)
class ResumableTraining:
    """Training within a run that writes metrics, saves checkpoints, and can be resumed.

    A run that was stopped in any way resumes when it is started with the same arguments. It
    continues from its newest undamaged checkpoint, and on the same platform every number is, to the
    last bit, that of an uninterrupted run: the state comes from the checkpoint, and the metrics
    before it from the history. On SIGTERM it saves a checkpoint and raises `TerminatedError`.

    training/LABELS/steps, files, damaged   `rnnjax.checkpoint.Checkpoints`
    stopped/LABELS-MEMBER                   the last good state of a member that stopped
    .history/LABELS                         `rnnjax.training.history`
    """

    run: Run
    labels: Mapping[str, Any]
    """What distinguishes this training from others of the run; on every line of metrics.jsonl."""
    members: Sequence[Any]
    """The value of `seed` in metrics.jsonl for each member."""
    record_every: int = 1
    """Number of updates between two entries of metrics.jsonl."""
    checkpoint_every: int = 500
    """Number of updates between two checkpoints; it does not change any number."""
    keep: int = 2
    """Number of newest checkpoints to keep, beside the one of least `loss` (a metric)."""
    label: str = ""
    """Shown beside the progress bar; the labels if empty."""

    @classmethod
    def from_config(
        cls, config: Any, run: Run, members: Sequence[Any], **labels: Any
    ) -> "ResumableTraining":
        """Return a resumable training with the options of a configuration.

        Args:
            config: has `record_every`, and `checkpoint_every` and `keep` of `RunOptions`.
        """
        options = (getattr(config, name) for name in ("record_every", "checkpoint_every", "keep"))
        return cls(run, labels, members, *options)

    def train_on_samples(
        self,
        train_step: TrainStep,
        state: TrainState,
        sample: Callable[[Any], Any],
        *,
        steps: int,
        chunk_size: int,
        observe: Callable[[TrainState], PyTree] = lambda state: (),
        until: Until = lambda state: False,
    ) -> TrainingResult:
        """Train as `rnnjax.training.train_on_samples` does.

        Args:
            observe: pure function of the state to a tree of arrays of one structure. It is called
                before the first step and after every `chunk_size` updates.
            until: pure function of the state to `[S]`. Training ends before `steps` where it is
                true for all members that have not stopped, after a multiple of `chunk_size`.

        Raises:
            NonFiniteError: all members have stopped.
            ResumeError: the run cannot be resumed.
            TerminatedError: SIGTERM was received.
            OSError: a file cannot be written; the message says why.
        """
        ends = chunk_ends(steps, chunk_size)
        prepare = functools.partial(prepare_samples, train_step, sample)
        return self._train(prepare, state, (), ends, observe, until)

    def train_on_batches(
        self,
        train_step: TrainStep,
        state: TrainState,
        batches: Sequence[Iterable[Any]],
        *,
        steps: int,
        chunk_size: int,
        observe: Callable[[TrainState], PyTree] = lambda state: (),
        until: Until = lambda state: False,
    ) -> TrainingResult:
        """Train as `rnnjax.training.train_on_batches` does.

        On resuming, a `rnnjax.training.ResumableIterator` (such as Grain's) continues at its saved
        position. Of other iterators, the batches that were used are drawn and discarded.

        Arguments and errors are those of the other method.
        """
        ends = chunk_ends(steps, chunk_size)
        iterators = [iter(b) for b in batches]
        prepare = functools.partial(prepare_batches, train_step, iterators)
        return self._train(prepare, state, iterators, ends, observe, until)

    @property
    def _name(self):
        return ",".join(map(file_name, self.labels.values())) or "all"

    @property
    def _history(self):
        return self.run.history / self._name

    def _train(self, prepare_up_to, state, iterators, ends, observe, until):
        prepare = prepare_up_to(min(ends[0], self.checkpoint_every, LONGEST_CHUNK))
        with compiled_meanwhile(prepare, state):
            before = jax.tree.map(np.asarray, observe(state))
        state = shard_population(state)
        directory = self.run.shared("training") / self._name
        on_first_process(lambda: directory.mkdir(parents=True, exist_ok=True))
        with note_sigterm() as sigterm, Checkpoints(directory, keep=self.keep) as checkpoints:
            position = self._resume(checkpoints, state, iterators, ends, jax.tree.structure(before))
            step, state, active, chunks, parts = position
            done = step in ends and _all(until, state, active)
            for chunk in () if done else self._remaining(prepare, position, ends):
                terminated, last = any_process(sigterm()), chunk.step == ends[-1]
                active = active & (chunk.counts == chunk.step - chunk.first_step + 1)
                if chunk.step in ends or chunk.stops:  # the state is observed or saved
                    complete = chunk._replace(state=gather(chunk.state))
                else:
                    complete = chunk
                on_first_process(functools.partial(self._write, complete))
                step, state = chunk.step, chunk.state
                self._save_stopped(complete, active)
                parts.append(complete)
                if chunk.step in ends:
                    observed = jax.tree.map(np.asarray, observe(complete.state))
                    chunks.append(join_chunks(parts)._replace(observed=observed))
                    self._save_history(chunks[-1], complete=True)
                    parts.clear()
                    done = _all(until, complete.state, active)
                due = chunk.step % self.checkpoint_every == 0 or last or done or terminated
                if due and active.any():
                    if parts:
                        self._save_history(join_chunks(parts), complete=False)
                    values = positions(iterators), active.tolist(), platform()
                    metadata: dict[str, Any] = dict(zip(METADATA, values, strict=True))
                    checkpoints.save(chunk.step, chunk.state, metadata, _median_loss(chunk))
                if terminated or done:
                    break
            stopped = any_process(sigterm())
        if stopped:
            raise TerminatedError(f"{self._name}: terminated after step {step} of {ends[-1]}")
        return TrainingResult(gather(state), before, chunks)

    def _remaining(self, prepare, position, ends) -> Iterable[Chunk]:
        """Yield chunks up to the last step; they end at `ends`, at checkpoints, and in between."""
        if position.step >= ends[-1]:
            return ()
        every = self.checkpoint_every, LONGEST_CHUNK
        records = (*position.chunks, *position.parts)
        return run_chunks(
            prepare,
            position.state,
            chunk_stops(position.step, ends, every),
            ends[-1],
            self.label or self._name,
            start=position.step,
            active=position.active,
            first_stop=next((stop for record in records for stop in record.stops), None),
        )

    def _write(self, chunk):
        """Write the metrics of a new chunk, and the time."""
        self._write_metrics(chunk)
        self.run.append_time(**self.labels, step=chunk.step)

    def _write_metrics(self, chunk):
        """Write metrics and stops; of a resumed run the same lines are already there."""
        self.run.append_metrics(self.labels, self.members, chunk, every=self.record_every)
        if chunk.stops:
            rows = [
                {**self.labels, "seed": self.members[stop.member]}
                | {name: getattr(stop, name) for name in ("step", "metric", "value")}
                for stop in chunk.stops
            ]
            self.run.append("stopped.jsonl", rows)

    def _save_stopped(self, chunk, active):
        if chunk.stops:
            folder, others = self.run.shared("stopped"), bool(active.any())
            save_stopped(folder, self._name, self.members, chunk, others_continue=others)

    def _save_history(self, record, *, complete):
        on_first_process(functools.partial(save_chunk, self._history, record, complete=complete))

    def _resume(self, checkpoints, state, iterators, ends, structure) -> _Position:
        """Return the position of the newest undamaged checkpoint, or the start."""
        steps = checkpoints.steps()
        for step in steps:
            try:
                restored, metadata = checkpoints.load(step, state)
                places, active, begun_on = (metadata[key] for key in METADATA)
                chunks, partial = load_chunks(self._history, ends, step, structure)
            except KeyError as error:
                raise ResumeError(
                    f"{self.run.path} was begun by a version of rnnjax whose checkpoints have no "
                    f"{error}; give another --out, or remove that directory to start again"
                ) from error
            except ValueError as error:
                raise ResumeError(
                    f"{error}: the code has changed since; give another --out, or remove "
                    f"{self.run.path} to start again"
                ) from error
            except OSError as error:
                checkpoints.quarantine(step)
                if is_first_process():
                    print(f"{self._name}: {error}; trying an earlier one", file=sys.stderr)
                continue
            restore_positions(iterators, places, step)
            compare_platform(self._name, begun_on)
            parts = [] if partial is None else [partial]
            for record in (*chunks, *parts):
                on_first_process(functools.partial(self._write_metrics, record))
            return _Position(step, restored, np.array(active, bool), chunks, parts)
        if steps or checkpoints.damaged():
            raise ResumeError(
                f"all checkpoints of {self._name} in {self.run.path} are damaged; give another "
                "--out, or remove that directory to start again"
            )
        return _Position(0, state, np.ones(len(self.members), bool), [], [])


def _all(until, state, active):
    """Return whether training ends: `until` is true for all members that have not stopped."""
    met = np.asarray(until(gather(state)), bool)
    return bool(active.any() and np.broadcast_to(met, active.shape)[active].all())


def _median_loss(chunk):
    """Return the loss by which the best checkpoint is chosen: the median of the members' means."""
    loss = chunk.metrics.get("loss")
    if loss is None:
        return 0.0
    means = loss.mean(0)
    finite = np.isfinite(means)
    return float(np.median(means[finite])) if finite.any() else float(np.finfo(np.float32).max)
