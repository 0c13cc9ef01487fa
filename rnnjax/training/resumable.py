"""Training that survives: what a run keeps of it, and how a run that was stopped goes on."""

import contextlib
import dataclasses
import functools
import signal
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax import checkpoint
from rnnjax.runs import Run, read_arrays, write_arrays
from rnnjax.training.loop import (
    Chunk,
    MemberStop,
    Prepare,
    TrainState,
    TrainStep,
    multiples,
    on_batches,
    on_samples,
    segments,
)
from rnnjax.training.multihost import any_process, is_first_process, on_first_process
from rnnjax.training.population import gather, shard_population

PyTree = Any


class ResumeError(Exception):
    """A run cannot go on from what is left of it; the message says why and what to do."""


class TerminatedError(Exception):
    """SIGTERM came: a checkpoint has been saved; the message says at which step."""


class ChunkRecord(NamedTuple):
    """What is kept of a chunk of training."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # number of the last
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]; NaN after a member's stop
    counts: np.ndarray  # [S], how many of these updates each member did
    stops: tuple[MemberStop, ...]  # of members that stopped in this chunk
    observed: PyTree  # what `observe` gave after its last step


class TrainingResult(NamedTuple):
    """What a training came to."""

    state: TrainState  # of members that have stopped: the last good one
    before: PyTree  # what `observe` gave before the first step
    chunks: list[ChunkRecord]


@dataclasses.dataclass(frozen=True)
class ResumableTraining:
    """Training within a run: metrics are written, checkpoints saved, and a stopped run goes on.

    A run that was stopped, however that was, and is begun again with the same arguments goes on
    from its newest whole checkpoint, and every number is, to the last bit, what it would have been:
    the state and the steps it was saved at come from the checkpoint, and what was measured before
    that from the history beside it. SIGTERM is answered by a checkpoint.

    training/LABELS/steps, files, damaged   `rnnjax.checkpoint.Checkpoints`
    stopped/LABELS-MEMBER                   the last good state of a member that stopped
    .history/LABELS/FIRST-LAST.npz          metrics and observations of a chunk
    .history/LABELS/FIRST.npz               metrics of the chunk that is not finished
    """

    run: Run
    labels: Mapping[str, Any]
    """What tells this training from others of the run; on every line of metrics.jsonl."""
    members: Sequence[Any]
    """What stands as `seed` in metrics.jsonl, for each member."""
    record_every: int = 1
    """Updates between two entries of metrics.jsonl."""
    checkpoint_every: int = 100
    """Updates between two checkpoints; they change no number."""
    keep: int = 2
    """How many of the newest checkpoints to keep, beside the one of least `loss` (a metric)."""
    label: str = ""
    """Shown beside the progress bar; none means the labels."""

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
    ) -> TrainingResult:
        """Train as `rnnjax.training.train_on_samples` does.

        Args:
            observe: pure function of the state, called before the first step and after every
                `chunk_size` updates, to a tree of arrays, of one structure.

        Raises:
            NonFiniteError: no member is left.
            ResumeError: the run cannot go on.
            TerminatedError: SIGTERM came.
            OSError: something cannot be written; the message says why.
        """
        cuts = multiples(steps, chunk_size)
        prepare = on_samples(train_step, sample, cuts[0])
        return self._train(prepare, state, (), cuts, observe)

    def train_on_batches(
        self,
        train_step: TrainStep,
        state: TrainState,
        batches: Sequence[Iterable[Any]],
        *,
        steps: int,
        chunk_size: int,
        observe: Callable[[TrainState], PyTree] = lambda state: (),
    ) -> TrainingResult:
        """Train as `rnnjax.training.train_on_batches` does.

        Iterators that have `get_state` and `set_state` (Grain's) go on where they were; of others
        the batches that were used are taken once more, and left.

        Arguments and errors are those of the other method.
        """
        cuts = multiples(steps, chunk_size)
        iterators = [iter(b) for b in batches]
        length = min(cuts[0], self.checkpoint_every)
        prepare = on_batches(train_step, iterators, length)
        return self._train(prepare, state, iterators, cuts, observe)

    @property
    def _name(self):
        return ",".join(map(_file_name, self.labels.values())) or "all"

    @property
    def _history(self):
        return self.run.history / self._name

    def _train(self, prepare: Prepare, state, iterators, cuts, observe):
        before = jax.tree.map(np.asarray, observe(state))
        state = shard_population(state)
        directory = self.run.shared("training") / self._name
        on_first_process(lambda: directory.mkdir(parents=True, exist_ok=True))
        with _sigterm() as asked, checkpoint.Checkpoints(directory, keep=self.keep) as saved:
            at = self._restore(saved, state, iterators, cuts, jax.tree.structure(before))
            chunks, parts = at.chunks, [at.partial] if at.partial else []
            for record in (*chunks, *parts):
                on_first_process(functools.partial(self._write, record))
            stops = [stop for record in (*chunks, *parts) for stop in record.stops]
            every = range(self.checkpoint_every, cuts[-1], self.checkpoint_every)
            ahead = sorted(step for step in {*cuts, *every} if step > at.step)
            options = {"start": at.step, "going": at.going, "first": next(iter(stops), None)}
            options["label"] = self.label or self._name
            going, done, step = at.going, at.state, at.step
            for chunk in segments(prepare, at.state, ahead, **options) if ahead else ():
                terminated, last = any_process(asked()), chunk.step == cuts[-1]
                going = going & (chunk.counts == chunk.step - step)
                whole = chunk
                if chunk.step in cuts or chunk.stops:  # where it is looked at
                    whole = chunk._replace(state=gather(chunk.state))
                on_first_process(functools.partial(self._note, whole))
                done, step = chunk.state, chunk.step
                self._keep_stopped(whole, going)
                parts.append(whole)
                if chunk.step in cuts:
                    seen = jax.tree.map(np.asarray, observe(whole.state))
                    chunks.append(_joined(parts)._replace(observed=seen))
                    on_first_process(functools.partial(self._remember, chunks[-1]))
                    parts = []
                due = chunk.step % self.checkpoint_every == 0 or last or terminated
                if due and going.any():
                    if parts:
                        on_first_process(
                            functools.partial(self._remember, _joined(parts), finished=False)
                        )
                    facts = {"going": going.tolist(), "iterators": _states(iterators)}
                    saved.save(chunk.step, chunk.state, facts | {"made by": _maker()}, _loss(chunk))
                if terminated:
                    break
            stopped = any_process(asked())
        if stopped:
            raise TerminatedError(f"{self._name}: terminated after step {step} of {cuts[-1]}")
        return TrainingResult(gather(done), before, chunks)

    def _note(self, chunk):
        """Write what a chunk gives at once."""
        self._write(chunk)
        self.run.append_time(**self.labels, step=chunk.step)

    def _write(self, chunk):
        """Write metrics, and who stopped, once more or for the first time."""
        self.run.append_metrics(self.labels, self.members, chunk, every=self.record_every)
        if chunk.stops:
            rows = [
                {**self.labels, "seed": self.members[stop.member]}
                | {name: getattr(stop, name) for name in ("step", "metric", "value")}
                for stop in chunk.stops
            ]
            self.run.append("stopped.jsonl", rows)

    def _keep_stopped(self, chunk, going):
        if not chunk.stops:
            return
        folder = self.run.shared("stopped")
        for stop in chunk.stops:
            target = folder / f"{self._name}-{_file_name(self.members[stop.member])}"
            if not target.exists():
                own = jax.tree.map(lambda a, m=stop.member: np.asarray(a[m]), _words(chunk.state))
                checkpoint.save(target, own)
        if going.any() and is_first_process():
            first, *more = chunk.stops
            others = f", {len(more)} more members stop by step {chunk.step}" if more else ""
            print(
                f"{self._name}: {first}{others}; the rest goes on. The last good states are in "
                f"{folder}",
                file=sys.stderr,
            )

    def _remember(self, record, finished=True):
        """Write to the history what is needed of a chunk when the run goes on."""
        arrays = {f"metric {name}": value for name, value in record.metrics.items()}
        arrays |= {"counts": record.counts, "names": np.array([s.metric for s in record.stops])}
        for field in ("member", "step", "value"):
            arrays[f"stop {field}"] = np.array([getattr(s, field) for s in record.stops])
        first = f"{record.first_step:09}"
        if finished:
            leaves = jax.tree.leaves(record.observed)
            arrays |= {f"observed {i}": leaf for i, leaf in enumerate(leaves)}
            write_arrays(self._history / f"{first}-{record.step:09}.npz", arrays)
            (self._history / f"{first}.npz").unlink(missing_ok=True)
        else:
            write_arrays(self._history / f"{first}.npz", arrays)

    def _recall(self, cuts, step, structure):
        """Return the chunks up to a step, and the part of one that was not finished there.

        Raises:
            OSError: the history is damaged.
            ValueError: what `observe` gives has another structure.
        """
        chunks, partial, first = [], None, 1
        for cut in cuts:
            if first > step:
                break
            whole = self._history / f"{first:09}-{cut:09}.npz"
            part = self._history / f"{first:09}.npz"
            if cut <= step:
                chunks.append(_record(read_arrays(whole), first, cut, structure))
            else:
                arrays = read_arrays(whole if whole.exists() else part)
                partial = _record(arrays, first, step, None)
            first = cut + 1
        return chunks, partial

    def _restore(self, saved, state, iterators, cuts, structure):
        """Return where to go on: after the newest checkpoint that is whole, or at the start."""
        steps = saved.steps()
        for step in steps:
            try:
                found, facts = saved.load(step, state)
                recall = functools.partial(self._recall, cuts, step, structure)
                chunks, partial = on_first_process(recall)
            except ValueError as error:
                raise ResumeError(
                    f"{error}: the code has changed since; give another --out, or remove "
                    f"{self.run.path} to begin again"
                ) from error
            except OSError as error:
                saved.quarantine(step)
                if is_first_process():
                    print(f"{self._name}: {error}; an earlier one may do", file=sys.stderr)
                continue
            _set_states(iterators, facts["iterators"], step)
            if facts["made by"] != _maker() and is_first_process():
                print(
                    f"{self._name}: begun with {facts['made by']}, goes on with {_maker()}; the "
                    "last bits may be others",
                    file=sys.stderr,
                )
            going = np.array(facts["going"], bool)
            return SimpleNamespace(
                step=step, state=found, going=going, chunks=chunks, partial=partial
            )
        if steps or saved.damaged():
            raise ResumeError(
                f"no checkpoint of {self._name} in {self.run.path} is whole; give another --out, "
                "or remove that to begin again"
            )
        going = np.ones(len(self.members), bool)
        return SimpleNamespace(step=0, state=state, going=going, chunks=[], partial=None)


def _maker():
    """Return what the last bits of a number may depend on."""
    return f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"


def _file_name(value):
    """Return a name that no other value has, with nothing in it that a path may not hold."""
    return urllib.parse.quote(str(value), safe=" +")


def _record(arrays, first, last, structure):
    """Return what a file of the history says of the steps up to `last`."""
    size = last - first + 1
    metrics = {
        name.removeprefix("metric "): value[:size]
        for name, value in arrays.items()
        if name.startswith("metric ")
    }
    if any(len(value) < size for value in metrics.values()):
        raise OSError(f"the history of steps {first} to {last} is damaged")
    columns = (arrays[f"stop {field}"].tolist() for field in ("member", "step"))
    stops = zip(*columns, arrays["names"].tolist(), arrays["stop value"].tolist(), strict=True)
    observed = ()
    if structure is not None:
        leaves = [value for name, value in arrays.items() if name.startswith("observed ")]
        if len(leaves) != structure.num_leaves:
            raise ValueError(
                f"the history of steps {first} to {last} holds {len(leaves)} observed arrays, "
                f"wanted are {structure.num_leaves}"
            )
        observed = jax.tree.unflatten(structure, leaves)
    return ChunkRecord(
        first,
        last,
        metrics,
        np.minimum(arrays["counts"], size),
        tuple(stop for stop in (MemberStop(*stop) for stop in stops) if stop.step <= last),
        observed,
    )


def _joined(parts: Sequence[Chunk | ChunkRecord]) -> ChunkRecord:
    """Return successive chunks as one."""
    metrics = {
        name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics
    }
    counts = sum(part.counts for part in parts)
    stops = tuple(stop for part in parts for stop in part.stops)
    return ChunkRecord(parts[0].first_step, parts[-1].step, metrics, np.asarray(counts), stops, ())


def _loss(chunk):
    """Return what the best checkpoint is chosen by: the median member's mean loss."""
    loss = chunk.metrics.get("loss")
    if loss is None:
        return 0.0
    means = loss.mean(0)
    going = np.isfinite(means)
    return float(np.median(means[going])) if going.any() else float(np.finfo(np.float32).max)


def _words(tree):
    """Return a tree with typed keys as their words."""
    typed = lambda a: jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda a: jax.random.key_data(a) if typed(a) else a, tree)


def _states(iterators):
    return [i.get_state() if hasattr(i, "get_state") else None for i in iterators]


def _set_states(iterators, states, taken):
    for iterator, state in zip(iterators, states, strict=True):
        if state is not None:
            iterator.set_state(state)
        else:
            for _ in range(taken):
                next(iterator)


@contextlib.contextmanager
def _sigterm() -> Iterator[Callable[[], bool]]:
    """Give the way to ask whether SIGTERM has come; it does nothing else meanwhile."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set  # no other thread gets signals
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
