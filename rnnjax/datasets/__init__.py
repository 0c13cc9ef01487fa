"""Real data sets as TFDS builders, NumPy arrays and Grain pipelines.

Importing this package loads neither TensorFlow Datasets nor Grain: each function imports what it
uses.

builders     what the TFDS builders have in common; they need no TensorFlow
preparing    from a builder to rows in memory: prepared once, safe against interruption and rivals
batches      shuffled batches whose state can be saved, padding, splits by document
vocabulary   texts to numbers and back

The other modules are one data set each, or one kind: a module loads it, and `NAME_builder` is its
TFDS builder. `digits` is sequential and permuted handwritten digits, 64 steps of one pixel.
"""
