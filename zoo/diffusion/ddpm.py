"""Denoising Diffusion Probabilistic Models.

Ho et al., 2020, https://arxiv.org/abs/2006.11239, with the cosine schedule of Nichol &
Dhariwal, 2021, v-prediction (Salimans & Ho, 2022, https://arxiv.org/abs/2202.00512),
weights of min-SNR (Hang et al., 2023, https://arxiv.org/abs/2303.09556) and guidance
without a classifier (Ho & Salimans, 2022, https://arxiv.org/abs/2207.12598). What
differs: the schedules are functions of time, read at 1,000 times in training.
"""

from zoo._model import Model
from zoo.diffusion._denoiser import Denoiser
from zoo.diffusion._unet import unet


class DDPM(Denoiser, Model):
    """A U-Net that denoises images, from which images are made out of noise.

    Args:
        image_shape: Height, width and channels; the sides are multiples of `patch`
            times 2 to the power of one less than the number of levels.
        channels: Channels of each level, the finest first; each is half as wide.
        blocks: Residual blocks of a level on the way down; one more on the way up.
        attention: Levels with attention, counted from 0; -1 is the coarsest.
        patch: Side of the squares of pixels that are read and written as one.
        dropout: Share of activations hidden in training.
        prediction: What the network predicts: "epsilon", the noise; "x0", the image;
            "v", α ε - σ x0.
        schedule: "linear" or "cosine".
        min_snr: Largest weight γ of the image's error, 5 in the paper; 0 weighs the
            error of the prediction itself by 1 at all times.
        classes: Number of labels to condition on; None for none.
        drop: Share of labels left out in training, for guidance.
        steps: Of the solver, unless `generate` is told another number.
        guidance: How much labels count, likewise; two evaluations a step if not 1.
    """

    slow_in_xla = True  # A third slower, measured: its convolutions on a CPU.

    def __init__(
        self,
        image_shape=(28, 28, 1),
        channels=(32, 64, 64),
        blocks=2,
        attention=(-1,),
        patch=1,
        dropout=0.0,
        prediction="v",
        schedule="cosine",
        min_snr=5.0,
        classes=None,
        drop=0.1,
        steps=20,
        guidance=1.0,
    ):
        super().__init__(autocast=False)
        if prediction == "velocity" or schedule == "straight" or min_snr < 0:
            raise ValueError(
                "DDPM predicts epsilon, x0 or v on a linear or cosine schedule, with "
                f"min_snr of 0 or more; not {prediction!r}, {schedule!r}, {min_snr}."
            )
        self._build(image_shape, classes, schedule, prediction, drop, steps, guidance)
        self.min_snr = min_snr
        self.network = unet(
            image_shape, channels, blocks, attention, patch, dropout, classes
        )
        self.built = True

    def objective(self, images, labels=None):
        """Return the mean error of the prediction, weighted; equation 14."""
        return self._chain_loss(images, labels, self.min_snr)
