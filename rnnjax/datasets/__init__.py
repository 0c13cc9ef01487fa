"""Real data sets as TFDS builders, NumPy arrays and Grain pipelines, one module per data set.

Importing this package loads neither TensorFlow Datasets nor Grain: each function imports what it
uses. `digits` is sequential and permuted handwritten digits, 64 steps of one pixel.
"""
