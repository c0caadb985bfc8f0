"""Multistep Consistency Models.

Heek et al., 2024, https://arxiv.org/abs/2403.06807: the consistency models of Song et
al., 2023, https://arxiv.org/abs/2303.01469, with the way from noise to image cut into
segments, each of which one evaluation jumps over. Trained on data from the weights of a
diffusion model (as Geng et al., 2024, https://arxiv.org/abs/2406.14548, do).

Why this one: progressive distillation (Salimans & Ho, 2022) needs a training for each
halving and a teacher beside the student; a plain consistency model must jump over the
whole way, which takes a large network and long training; adversarial students need a
critic. Four segments are near enough to the diffusion model that starts them that two
passes a step for a few epochs do, and one segment is the plain consistency model.
"""

from keras import ops

from zoo._model import Model
from zoo.diffusion._denoiser import Denoiser
from zoo.diffusion._unet import unet
from zoo.diffusion.schedules import even_times


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
        self._build(image_shape, classes, "cosine", "v", drop, segments)
        self.segments, self.grid, self.limit = segments, grid, limit
        self.solver = "ddim"
        self.network = unet(
            image_shape, channels, blocks, attention, patch, dropout, classes
        )
        self.built = True

    def objective(self, images, labels=None):
        """Return how far neighbours in time jump apart, weighted, on average.

        From times t and r, one place of the grid before it, with the same noise, both
        jump to the segment's end s. In terms of the image, the jump from t has to find
        a mean of the true image, which led from t to r, and of what r found.
        """
        images, noise, labels = self._drawn(images, labels)
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
        errors = ops.mean(ops.square(jump(now, training=True) - target), (1, 2, 3))
        alpha, sigma = self.schedule(now, ops)
        return ops.mean(errors * (1.0 + ops.minimum((alpha / sigma) ** 2, self.limit)))

    def share(self, now, before, end):
        """Return the weight of the true image in the target, (n,), by DDIM's steps.

        1 where `before` is the segment's end, 0 where the end is time 0.
        """
        ratios = (self.schedule(times, ops) for times in (now, before, end))
        t, r, s = (sigma / alpha for alpha, sigma in ratios)
        found = s * (t - r) / (ops.maximum(r, 1e-6) * (t - s))
        return ops.where(before <= end, 1.0, found)
