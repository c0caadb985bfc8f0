"""Multistep Consistency Models.

Heek et al., 2024, https://arxiv.org/abs/2403.06807: the consistency models of Song et
al., 2023, https://arxiv.org/abs/2303.01469, with the way from noise to image cut into
segments, each of which one evaluation jumps over. Trained on data from the weights of a
diffusion model (as Geng et al., 2024, https://arxiv.org/abs/2406.14548, do), or
distilled from that model: what it finds step by step at a segment's end, the student
finds at once, as in progressive distillation (Salimans & Ho, 2022,
https://arxiv.org/abs/2202.00512), whose halvings are one here.

Why this one: a plain consistency model must jump over the whole way, which takes a
large network and long training; adversarial students need a critic. A few segments are
near enough to the diffusion model that starts them that a few epochs do.
"""

import numpy as np
from keras import ops

from zoo._model import Model
from zoo.diffusion._denoiser import Denoiser, wide
from zoo.diffusion._unet import unet
from zoo.diffusion.schedules import even_times
from zoo.diffusion.solvers import ddim_table, dpm_table


class ConsistencyModel(Denoiser, Model):
    """A U-Net that jumps from noise to image in few evaluations.

    Give it the weights of a `DDPM` of the same sizes that predicts v on the cosine
    schedule: as v, its prediction at time 0 is the image itself, as consistency wants.

    Args:
        image_shape, channels, blocks, attention, patch, dropout, classes, drop: As in
            `DDPM`.
        segments: Parts of the way, 1 to 64, and evaluations of a sample.
        grid: Times at which neighbours are compared, a multiple of the segments, up to
            10,000: more is truer and slower to learn.
        limit: Largest weight of an error by its signal-to-noise ratio.
        substeps: Evaluations of a teacher in each segment, 1 to 64.

    Attributes:
        teacher: `denoise` of the `DDPM` to learn from, set by `starts`; None learns
            from images alone.
    """

    solvers = ("ddim", "jumps")
    starts_from = ("DDPM",)
    slow_in_xla = True  # As DDPM.

    def __init__(
        self,
        image_shape=(28, 28, 1),
        channels=(32, 64, 64),
        blocks=2,
        attention=(-1,),
        patch=1,
        dropout=0.0,
        segments=4,
        grid=64,
        limit=5.0,
        substeps=4,
        classes=None,
        drop=0.1,
    ):
        super().__init__(autocast=False)
        whole = 1 <= segments <= 64 and segments <= grid <= 10_000
        if not whole or grid % segments or limit <= 0:
            raise ValueError(
                "segments are 1 to 64, grid a multiple of them up to 10,000 and limit "
                f"above 0; these are {segments}, {grid} and {limit}."
            )
        if not 1 <= substeps <= 64:
            raise ValueError(f"substeps are 1 to 64, not {substeps}.")
        self._build(image_shape, classes, "cosine", "v", drop, segments)
        self.segments, self.grid, self.limit = segments, grid, limit
        self.substeps = substeps
        self.teacher = None
        self.solver = "ddim"
        self.network = unet(
            image_shape, channels, blocks, attention, patch, dropout, classes
        )
        self.built = True

    def starts(self, other):
        """Go on from the weights of a model, and learn from it if it is a `DDPM`."""
        super().starts(other)
        if type(other).__name__ in self.starts_from:
            self.teacher = other.denoise  # A model would be saved with this one.

    def objective(self, images, labels=None):
        """Return how far neighbours in time jump apart, weighted, on average.

        From times t and r, one place of the grid before it, with the same noise, both
        jump to the segment's end s. In terms of the image, the jump from t has to find
        a mean of the true image, which led from t to r, and of what r found. With a
        teacher, t is a segment's start and the jump has to find what leads to where
        the teacher comes by DPM-Solver++(2M).
        """
        images, noise, labels = self._drawn(images, labels)
        if self.teacher is not None:
            return self._taught(images, noise, labels)
        place = ops.floor(self.grid * even_times(images, self.seed))  # Of r.
        each = self.grid // self.segments
        end = ops.floor(place / each) * each
        now, before = (place + 1.0) / self.grid, place / self.grid

        def jump(times, **how):
            alpha, sigma = self._marginals(times)
            x = alpha * images + sigma * noise
            return alpha * x - sigma * self(x, times, labels, **how)

        share = ops.reshape(self.share(now, before, end / self.grid), (-1, 1, 1, 1))
        found = ops.stop_gradient(jump(before))
        target = found + share * (images - found)
        return self._weighed(jump(now, training=True) - target, now)

    def _taught(self, images, noise, labels):
        """Return how far jumps from the segments' starts are from the teacher's way."""
        place = ops.floor(self.segments * even_times(images, self.seed))
        times, mix, whole = self._ways()
        place = ops.cast(self.segments - 1 - place, "int32")  # From noise to image.

        def at(table):
            return ops.take(ops.convert_to_tensor(table.astype("float32")), place, 0)

        now = at(times[:, 0])
        alpha, sigma = self._marginals(now)
        start = alpha * images + sigma * noise
        x, last = start, ops.zeros_like(start)
        for k in range(self.substeps):
            a, b, c = (wide(at(mix[:, k, column])) for column in range(3))
            found = self.teacher(x, at(times[:, k]), labels)
            x, last = a * x + b * found + c * last, found
        a, b = (wide(at(whole[:, column])) for column in range(2))
        target = ops.stop_gradient((x - a * start) / b)
        found = alpha * start - sigma * self(start, now, labels, training=True)
        return self._weighed(found - target, now)

    def _ways(self):
        """Return the teacher's times and numbers in each segment, and the jumps'."""
        ends = np.linspace(1.0, 0.0, self.segments + 1)
        ways = [
            dpm_table(self.schedule, np.linspace(*pair, self.substeps + 1))
            for pair in zip(ends[:-1], ends[1:])
        ]
        jumps = ddim_table(self.schedule, ends).mix
        return np.stack([w.times for w in ways]), np.stack([w.mix for w in ways]), jumps

    def _weighed(self, errors, times):
        """Return the mean square of errors of images, by their times' noise."""
        alpha, sigma = self.schedule(times, ops)
        weight = 1.0 + ops.minimum((alpha / sigma) ** 2, self.limit)
        return ops.mean(ops.mean(ops.square(errors), (1, 2, 3)) * weight)

    def share(self, now, before, end):
        """Return the weight of the true image in the target, (n,), by DDIM's steps.

        1 where `before` is the segment's end, 0 where the end is time 0.
        """
        ratios = (self.schedule(times, ops) for times in (now, before, end))
        t, r, s = (sigma / alpha for alpha, sigma in ratios)
        found = s * (t - r) / (ops.maximum(r, 1e-6) * (t - s))
        return ops.where(before <= end, 1.0, found)
