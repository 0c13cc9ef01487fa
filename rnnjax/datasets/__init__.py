"""Real data sets as TFDS builders, NumPy arrays and Grain pipelines.

Importing this package loads neither TensorFlow Datasets nor Grain: each function imports what it
uses.

builders     what the TFDS builders have in common; they need no TensorFlow
preparing    from a builder to rows in memory: prepared once, safe against interruption and rivals
batches      shuffled batches whose state can be saved, padding, splits by document
vocabulary   texts to numbers and back

The other modules are one kind of data each: a module loads them, and `NAME_builder` has their TFDS
builders: `digits`, `images`, `sentiment`, `translation`, `language` (texts by the character),
`speech` (with `audio` and `espeak`), `series`, `chorales`.
"""
