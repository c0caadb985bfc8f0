"""Samples of a model against real images: what `zoo evaluate` calls by bracketed names.

FD[lenet-mnist]@10k            Fréchet distance of 10,000 samples, by that extractor
recall[pixels]@2k              with the pixels themselves as features
FD floor[lenet-mnist]@10k      training images in place of samples
"""

import functools
import re

import numpy as np

import zoo
from zoo import metrics

KINDS = {"fake": "", "train": " floor", "source": " before"}
FEWEST = 2_000  # Samples; below, distances say more of their number than of the model.
NAME = re.compile(
    r"(?P<what>[A-Za-z][A-Za-z ]*?)(?P<kind> floor| before)?"
    r"\[(?P<judge>[\w.-]+)\]@(?P<num>\d+)(?P<k>k?)"
)


class Sets:
    """Samples, test and training images, and what an extractor makes of them.

    Args:
        model: What makes the samples: by `generate`, or by `translate` of the sources
            of the test set.
        test: The test `Data`.
        train: Function without arguments that opens the training `Data`; "train" are
            as many of it as there are samples, "all" is all of it.
        judge: Preset of a classifier, or "pixels". An image of more channels than it
            takes is read channel by channel, as in Stacked MNIST.
        num: How many samples, and how many of the real images at most.
        seed: Of the samples, and of which training images are taken.
        labels: "test" gives samples the labels of the test set, where these are not
            in equal shares; None takes all labels in turn.
        draw: Function of number and seed that returns samples; None is `generate`.
    """

    def __init__(self, model, test, train, judge, num, seed=0, labels=None, draw=None):
        if labels not in (None, "test"):
            raise ValueError(f"labels are 'test' or none, not {labels!r}.")
        self.model, self.test, self.open, self.num = model, test, train, num
        self.judge, self.seed, self.asked, self._held = judge, seed, labels, {}
        self.draw = draw or (lambda num, seed: model.generate(num, seed=seed))

    @functools.cached_property
    def train(self):
        return self.open()

    @functools.cached_property
    def extractor(self):
        return None if self.judge == "pixels" else zoo.load(self.judge)

    def features(self, which):
        """Return the features, (N, d) float32, of "fake", "test", "train" or "all"."""
        return self._read(which, "features")

    def labels(self, which):
        """Return the class that the judge sees in each image, (N,) int.

        Of c channels read one by one these are the digits of one number.
        """
        if self.extractor is None:
            raise ValueError("Classes are found by a classifier, not by pixels.")
        found = self._read(which, "classify")
        parts = found.reshape(len(found), -1, self.extractor.classes).argmax(-1)
        return parts @ self.extractor.classes ** np.arange(parts.shape[1])[::-1]

    @functools.cached_property
    def classes(self):
        """Number of values that `labels` can have."""
        return self.extractor.classes**self._folds

    @property
    def _folds(self):
        return self.model.image_shape[-1] // self.extractor.image_shape[-1]

    def images(self, which):
        """Return "fake", "test" or "train" images, "all" of these, or the "source"."""
        if which not in self._held:
            self._held[which] = self._fakes() if which == "fake" else self._real(which)
        return self._held[which]

    def _fakes(self):
        if self.model.pairs:
            return self.model.translate(self.test[np.arange(self.num)][0])
        if self.asked:
            asked = self.test[np.arange(self.num)][1]
            return self.model.generate(self.num, seed=self.seed, labels=asked)
        return self.draw(self.num, self.seed)

    def _real(self, which):
        data = self.test if which in ("test", "source") else self.train
        index = np.arange(len(data))
        if which == "train":
            np.random.default_rng(self.seed).shuffle(index)
        found = data[index if which == "all" else index[: self.num]]
        if isinstance(found, tuple):
            return found[1 if self.model.pairs and which != "source" else 0]
        return found

    def _read(self, which, verb):
        if (which, verb) not in self._held:
            self._held[which, verb] = self._through(self.images(which), verb)
        return self._held[which, verb]

    def _through(self, images, verb):
        num = len(images)
        if self.extractor is None:
            scale = np.float32(255 if images.dtype.kind == "u" else 1)
            return images.reshape(num, -1) / scale
        if self._folds > 1:
            images = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3], 1)
        return getattr(self.extractor, verb)(images).reshape(num, -1)


def _one(name, function):
    return lambda sets, which: function(sets.features("test"), sets.features(which))[
        name
    ]


def _histogram(sets, which):
    return metrics.class_histogram(sets.labels(which), sets.classes)


def class_kl(sets, which):
    """KL of the classes of samples from those of the test set, in nats."""
    return metrics.histogram_kl(_histogram(sets, which), _histogram(sets, "test"))


def mode_kl(sets, which):
    """KL of the classes of samples from all being as frequent, in nats."""
    even = np.full(sets.classes, 1 / sets.classes)
    return metrics.histogram_kl(_histogram(sets, which), even)


def memorization(sets, which):
    """Nearest training image: median distance of samples over that of test images."""
    found = (sets.features(kind) for kind in (which, "all", "test"))
    return metrics.memorization(*found)["ratio"]


BETWEEN = {
    "FD": lambda sets, which: metrics.frechet_distance(
        sets.features("test"), sets.features(which)
    ),
    "KD": lambda sets, which: metrics.kernel_distance(
        sets.features("test"), sets.features(which)
    ),
    "precision": _one("precision", metrics.precision_recall),
    "recall": _one("recall", metrics.precision_recall),
    "density": _one("density", metrics.density_coverage),
    "coverage": _one("coverage", metrics.density_coverage),
    "class KL": class_kl,
    "mode KL": mode_kl,
    "modes": lambda sets, which: metrics.modes_found(sets.labels(which), sets.classes),
    "memorization": memorization,
}


def parse(name):
    """Return (what, of which images, judge, num) of a bracketed name, or None."""
    found = NAME.fullmatch(name)
    if not found or found["what"] not in BETWEEN:
        return None
    num = int(found["num"]) * (1000 if found["k"] else 1)
    which = next(k for k, said in KINDS.items() if said == (found["kind"] or ""))
    return found["what"], which, found["judge"], num


def spelled(what, judge, num, which="fake"):
    """Return a bracketed name: the other way from `parse`."""
    count = f"{num // 1000}k" if num % 1000 == 0 else str(num)
    return f"{what}{KINDS[which]}[{judge}]@{count}"


def of_at_most(name, rows):
    """Return a bracketed name as it is where only so many rows are there."""
    what, which, judge, num = parse(name)
    return spelled(what, judge, min(num, rows), which)
