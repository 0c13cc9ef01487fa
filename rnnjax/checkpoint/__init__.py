"""Arrays on disk: one tree, or the checkpoints of a training. Only this room knows Orbax."""

from rnnjax.checkpoint.checkpoints import Checkpoints
from rnnjax.checkpoint.digests import digest
from rnnjax.checkpoint.tree import load, save

__all__ = ["Checkpoints", "digest", "load", "save"]
