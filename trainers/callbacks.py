"""What to watch while two networks learn against each other.

Their losses say little: each is measured by the other. How varied the samples are, and
how sure the critic is, means the same from epoch to epoch.
"""

import math
import warnings

import keras
import numpy as np

from zoo._noise import philox
from zoo._optimizers import averaged
from zoo.metrics import class_histogram
from zoo.metrics._pairs import features, squared_distances

VARIED = 0.3  # Least diversity that is no collapse.
MODES = 0.5  # Least share of the modes of real images that is none.
# Normal answers so far apart are on the wrong side once in 3.5 million: such a critic
# is sure of everything, however many images are asked about.
GAP = 10.0
ROWS = 5  # Real images of a class, below which its absence from samples says little.

MORE_VARIED = (
    "a lower learning rate for the generator, a larger r1 or penalty, more turns for "
    "the critic, or a larger batch"
)
LESS_SURE = "a larger r1 or penalty, a lower learning rate for both, or a larger batch"


class CollapseWarning(UserWarning):
    """Samples have lost what is varied in the data, or the critic is beyond doubt."""


class Watch(keras.callbacks.Callback):
    """Measure samples and critic at the end of each epoch, and warn of a collapse.

    The samples are of the same noise each time, by the averaged weights where the
    optimizer keeps averages. To the logs of an epoch, and so to the history and to the
    callbacks that come after this one, such as CSVLogger, it adds:

    - `diversity`: mean distance between two samples over that between two real images,
      in features of the judge, or in pixels: 1 when as varied as real ones, 0 when all
      are one. Below 0.3 is a collapse.
    - `balance`: share of real images and samples on their own side of the midpoint
      between the critic's mean answers to both: 0.5 when it cannot tell them apart, 1
      when it always can. Then, with a gap above 10, it is a collapse: the gap is real
      minus fake mean, in pooled standard deviations, and a critic so sure teaches
      little. What keeps the two in step is a penalty on its gradient (Mescheder et al.,
      2018, https://arxiv.org/abs/1801.04406) and the right learning rate for each
      (Heusel et al., 2017, https://arxiv.org/abs/1706.08500).
    - `modes`: with a judge, how many of the classes that it finds in 5 real images or
      more have at least a tenth of their share of these among the samples (after
      Santurkar et al., 2018, https://arxiv.org/abs/1711.00970). Less than half of the
      classes is a collapse.

    Args:
        real: Images that the model learns from, (N, height, width, channels), of which
            two differ: float in [0, 1], or uint8.
        labels: Their labels, (N,), for a model with `classes`; samples get the same.
        judge: A `Classifier` of such images; None compares pixels and counts no modes.
        num: Samples, and real images drawn once, that are measured: 2 or more, with a
            judge 10 for each class or more. Fewer when `real` has fewer.
        patience: Epochs in a row that a collapse lasts before it is said, 1 or more.
            Those that are the best so far do not count: most trainings start with
            samples that are all alike, and averages of weights follow late.
        seed: Of the noise, and of which real images.

    Attributes:
        history: dict of name to a list, one number for each epoch: what the logs get,
            and `gap`.

    Raises:
        ValueError: At the start of `fit`: the model cannot be watched, or not so.

    Warns:
        CollapseWarning: Once for each of the three in a training.
    """

    def __init__(self, real, labels=None, judge=None, num=500, patience=3, seed=0):
        super().__init__()
        if num < 2 or patience < 1:
            raise ValueError(
                "num is 2 or more and patience 1 or more; these are "
                f"num={num} and patience={patience}."
            )
        self.real, self.labels, self.judge = real, labels, judge
        self.num, self.patience, self.seed = num, patience, seed
        self.history = {}

    def on_train_begin(self, logs=None):
        model, name = self.model, type(self.model).__name__
        if not hasattr(model, "judge") or "generate" not in model.verbs():
            raise ValueError(
                "Watch is for models that generate and judge, such as DCGAN and "
                f"WGANGP; {name} does not."
            )
        if (self.labels is None) == bool(model.classes):
            takes = "images and labels" if model.classes else "images"
            raise ValueError(f"Watch of this {name} takes {takes}.")
        images = model._prepare(self.real)
        chosen = philox(self.seed, 1).permutation(len(images))[: self.num]
        self.images, self.given = images[chosen], {}
        if model.classes:
            labels = model._labels(self.labels, len(images))
            self.given["labels"] = labels[chosen]
        self.spread = self._spread(self.images) if len(chosen) > 1 else 0.0
        if self.spread < 1e-9:
            raise ValueError(
                f"real are images of which two differ; of {len(chosen)} none do."
            )
        if self.judge is not None:
            self.shares = self._shares(self.images)
            self.counted = self.shares * len(chosen) > ROWS - 0.5
        self.history, self.best, self.lasted, self.said = {}, {}, {}, set()

    def on_epoch_end(self, epoch, logs=None):
        with averaged(self.model):
            found = self._measure()
        for name, value in found.items():
            self.history.setdefault(name, []).append(value)
        if logs is not None:  # Keras gives all callbacks one dict, its own ones last.
            logs.update({k: v for k, v in found.items() if k != "gap"})
        for name, (there, good, seen, remedy) in self._causes(found).items():
            best = self.best.get(name, -math.inf)
            self.best[name] = max(best, good)
            there = there and good <= best
            self.lasted[name] = self.lasted.get(name, 0) + 1 if there else 0
            if self.lasted[name] >= self.patience and name not in self.said:
                self.said.add(name)
                text = f"Epoch {epoch + 1}: {seen}. What may help: {remedy}."
                warnings.warn(text, CollapseWarning, stacklevel=2)

    def _measure(self):
        model, images = self.model, self.images
        fakes = model.generate(len(images), self.seed, **self.given)
        real, fake = (
            model.judge(x, **self.given).astype("float64") for x in (images, fakes)
        )
        middle, gap = (real.mean() + fake.mean()) / 2, real.mean() - fake.mean()
        pooled = math.sqrt((real.var() + fake.var()) / 2)
        found = {
            "diversity": self._spread(fakes) / self.spread,
            "balance": float(np.mean([real > middle, fake < middle])),
            "gap": float(gap / max(pooled, 1e-12)),  # All the same: as good as none.
        }
        if self.judge is not None:
            shares = self._shares(fakes)
            enough = (shares > 0) & (shares >= 0.1 * self.shares)
            found["modes"] = float(np.count_nonzero(enough & self.counted))
        return found

    def _causes(self, found):
        """Return what a collapse can be seen by: (whether, how good, text, remedy)."""
        varied, balance, gap = found["diversity"], found["balance"], found["gap"]
        causes = {
            "diversity": (
                varied < VARIED,
                varied,
                f"two samples differ {varied:.2g} times as much as two real images, "
                f"less than {VARIED}",
                MORE_VARIED,
            ),
            "balance": (
                balance == 1 and gap > GAP,
                -gap,
                f"the critic is right about all of {2 * len(self.images)} images, real "
                f"and fake {gap:.3g} standard deviations apart, more than {GAP:g}",
                LESS_SURE,
            ),
        }
        if "modes" in found:
            modes, known = int(found["modes"]), np.count_nonzero(self.counted)
            causes["modes"] = (
                modes < MODES * known,
                modes,
                f"samples show {modes} of the {known} classes of real images, less "
                "than half",
                MORE_VARIED,
            )
        return causes

    def _spread(self, images):
        """Return the mean distance between two of the images."""
        if self.judge is not None:
            images = self.judge.features(images)
        elif images.dtype == np.uint8:
            images = images / 255
        (rows,) = features(2, images=images)
        rows -= rows.mean(axis=0)
        total = sum(np.sqrt(part).sum() for _, part in squared_distances(rows, rows))
        return float(total / (len(rows) * (len(rows) - 1)))

    def _shares(self, images):
        """Return the share of each class that the judge finds."""
        found = self.judge.classify(images)
        return class_histogram(found.argmax(axis=1), found.shape[1])
