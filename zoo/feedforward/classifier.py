"""Gradient-Based Learning Applied to Document Recognition.

LeCun et al., 1998, https://doi.org/10.1109/5.726791, with ReLU, maximum pooling, batch
normalisation and dropout in place of what came later. It generates nothing: it is the
judge of what others generate, by its labels and by its features.
"""

import keras
from keras import layers, ops

from zoo._model import Model, unit


class Classifier(Model):
    """A convolutional network from an image to the probability of each class.

    Args:
        image_shape: Height, width and channels of the images.
        classes: Number of classes.
        hidden: Channels of the blocks of two convolutions that each halve the image.
        features: Units of the last hidden layer, which `features` returns.
        dropout: Share of the features hidden in training.
        shift: Most pixels that a training image is moved by, each way.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        classes=10,
        hidden=(16, 32),
        features=64,
        dropout=0.3,
        shift=2,
    ):
        super().__init__()
        self.image_shape, self.classes, self.shift = tuple(image_shape), classes, shift
        images = x = keras.Input(image_shape)
        for channels in hidden:
            for _ in range(2):
                x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
                x = layers.BatchNormalization(momentum=0.9)(x)
                x = layers.ReLU()(x)
            x = layers.MaxPooling2D()(x)
        x = layers.Dense(features, activation="relu")(layers.Flatten()(x))
        self.body = keras.Model(images, x, name="body")
        self.dropout = layers.Dropout(dropout)
        self.head = layers.Dense(classes, name="head")
        self.head.build((None, features))
        self.seed = keras.random.SeedGenerator()
        self.built = True

    def call(self, images, training=False):
        """Return the logits, (n, classes)."""
        x = self.body(unit(images), training=training)
        return ops.cast(self.head(self.dropout(x, training=training)), "float32")

    def objective(self, images, labels):
        """Return the cross-entropy in nats."""
        logits = self(self._moved(unit(images)), training=True)
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
        return ops.mean(losses)

    def classify(self, images):
        """Return the probability of each class, (N, classes) float32."""
        return self._run("probabilities", self._prepare(images))

    def features(self, images):
        """Return the last hidden layer of each picture, (N, features) float32."""
        return self._run("_features", self._prepare(images))

    def probabilities(self, images):
        return ops.softmax(self(images))

    def signatures(self):
        return {"classify": ("probabilities", {"images": self._blank()})}

    def _features(self, images):
        return self.body(unit(images))

    def _moved(self, images):
        """Return a batch moved by a few pixels, drawn once for all of it."""
        if not self.shift:
            return images
        height, width, channels = self.image_shape
        room = ops.pad(images, [[0, 0], [self.shift] * 2, [self.shift] * 2, [0, 0]])
        offset = keras.random.randint((2,), 0, 2 * self.shift + 1, seed=self.seed)
        start = ops.stack([0, offset[0], offset[1], 0])
        return ops.slice(room, start, (ops.shape(images)[0], height, width, channels))
