"""Real data sets as TFDS builders, NumPy arrays and Grain pipelines.

Importing this package loads neither TensorFlow Datasets nor Grain: each function imports what it
uses. There is one folder per kind of data, loaded like `sentiment.load("train")`:

digits         handwritten digits, one pixel per step
images         handwritten digits and clothes
language       texts by the character
music          Bach's chorales
sentiment      tweets and film reviews
series         share prices, climate, the Sun
speech         spoken digits
translation    sentence pairs

In a folder, `loader` reads prepared data, `builder` holds the TFDS builders, and both import what
they share (`sources`, `voices`); a builder never imports a loader. The modules beside the folders
serve all kinds:

batches        shuffled batches with a state to save, padding, splits by document
builders       the base class of the TFDS builders; they need no TensorFlow
preparing      data written once, safe against interruption and concurrent processes
vocabulary     texts to numbers and back
"""
