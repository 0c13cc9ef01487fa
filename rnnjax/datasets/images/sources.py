"""The collections of images, and the names of their classes."""

DIGITS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"

CLOTHES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

NAMES = {"digits": DIGITS, "mnist": DIGITS, "fashion_mnist": CLOTHES}

SIZES = {"digits": 8, "mnist": 28, "fashion_mnist": 28}

SOURCES = {
    "digits": "scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI): demonstration scale",
    "mnist": "MNIST, 70,000 handwritten digits of 28x28 pixels",
    "fashion_mnist": "Fashion-MNIST, 70,000 pictures of clothes of 28x28 pixels",
}
