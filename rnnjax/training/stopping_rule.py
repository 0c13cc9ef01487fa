"""Training until the last sequences are right: a rule that each network of a population follows."""

import dataclasses
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Judged(NamedTuple):
    """The judgements of a network's last W training sequences, which `TrainState.stream` holds."""

    count: Any  # int32, the sequences judged so far
    correct: Any  # [W], whether each of the last W was correct; sequence k is at (k - 1) mod W
    errors: Any  # [W], float32, the error of each


@final
@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """Stop once the last `window` training sequences are all correct, with a small mean error.

    Every sequence is judged before the update that it causes, so the judgements are those of a
    test that goes on while the network learns. The sequences of the window count among those that
    training took. The mean is that of the window's own errors, computed anew from all of them:
    nothing is added and subtracted along the way.

        judged = rule.start()
        judged = rule.judge(judged, correct, error)     # for every sequence, in `train_step`
        rule.met(judged)

    All are pure functions of one network's judgements, for `jax.vmap` and `jax.lax.cond`.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5, experiments 4 to 6,
    where the window is 2000 sequences.

    Args:
        mean_error: that the mean error must be below.
        window: W.

    Raises:
        ValueError: `window` is below 1, or `mean_error` is not positive.
    """

    mean_error: float
    window: int = 2000

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        if not self.mean_error > 0:
            raise ValueError(f"mean_error must be positive, got {self.mean_error}")

    def start(self, members: int | None = None) -> Judged:
        """Return the judgements of no sequence, those of a population with a leading axis."""
        lead = () if members is None else (members,)
        shape = (*lead, self.window)
        return Judged(np.zeros(lead, np.int32), np.zeros(shape, bool), np.zeros(shape, np.float32))

    def judge(self, judged: Judged, correct: Bool[Array, ""], error: Float[Array, ""]) -> Judged:
        """Return the judgements with one more, in the place of the oldest."""
        place = judged.count % self.window
        return Judged(
            judged.count + 1,
            jnp.asarray(judged.correct).at[place].set(correct),
            jnp.asarray(judged.errors).at[place].set(error),
        )

    def met(self, judged: Judged) -> Bool[Array, "*S"]:
        """Return whether training ends here, for one network or a population."""
        found = self.recent(judged)
        full = judged.count >= self.window
        return full & (found["correct"] == 1) & (found["error"] < self.mean_error)

    def recent(self, judged: Judged) -> dict[str, Float[Array, "*S"]]:
        """Return the share of the last W sequences that were `correct`, and their mean `error`.

        Before there are W, of those that there are; 0 and 0 before the first.
        """
        seen = jnp.clip(judged.count, 1, self.window)
        share = jnp.asarray(judged.correct).sum(-1) / seen
        return {"correct": share, "error": jnp.asarray(judged.errors).sum(-1) / seen}
