"""Verbs of a denoiser that start from pictures, or from more than one noise."""

import functools

import numpy as np

from zoo._model import check_arcs


class Pictures:
    """inpaint, edit and interpolate."""

    def inpaint(
        self,
        images,
        mask,
        seed=None,
        solver="ddpm",
        steps=None,
        rounds=5,
        progress=False,
        on_step=None,
        **conditions,
    ):
        """Return images with what a mask hides filled in.

        Each step is taken several times, so that what is filled comes to agree with
        what is kept (Lugmayr et al., 2022, https://arxiv.org/abs/2201.09865). Other
        than there, the network's guess itself is set to the image where it is kept.

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
            mask: Of the same shape, or one that repeats to it: 1 or True keeps a pixel,
                0 fills it; what `images` hold there does not matter.
            seed, steps, progress, on_step, **conditions: As in `generate`.
            solver: "ddpm" or another that takes one evaluation a step.
            rounds: How often each step is taken, 1 to 100; above 1 of "ddpm" alone.

        Returns:
            float32 (N, height, width, channels) in [0, 1]; kept pixels as they were.
        """
        images = self._signed(images)
        kept = np.asarray(mask)
        if kept.ndim == 3 and self.image_shape[-1] == 1 and kept.shape[-1] != 1:
            kept = kept[..., None]
        try:
            kept = np.broadcast_to(kept, images.shape).astype("float32")
        except ValueError as error:
            raise ValueError(
                f"mask repeats to the images' shape {images.shape}; its own is "
                f"{kept.shape}."
            ) from error
        if not np.isin(kept, (0, 1)).all():
            raise ValueError("mask holds 0, which is filled, and 1, which is kept.")
        solver = solver if solver in self.solvers else None
        if rounds != 1 and solver not in ("ddpm", None):
            raise ValueError(f"rounds are of ddpm; {solver} takes 1, not {rounds}.")
        rounds = rounds if solver == "ddpm" else 1
        way = self._way(solver, steps, rounds=rounds)
        given = self._conditioned(len(images), conditions)
        alpha, sigma = (np.float32(v) for v in self.schedule(np.float64(1.0)))

        def draws(size):
            table, first = self._table(**way), 0
            for noise in self._draws(len(images), seed, table, size):
                rows = np.s_[first : first + len(noise["start"])]
                here = alpha * images[rows] + sigma * noise["start"]
                noise["start"] += kept[rows] * (here - noise["start"])
                first = rows.stop
                yield noise

        watch = {"progress": progress, "on_step": on_step}
        held = {"images": images, "mask": kept}
        return self._walk(len(images), draws, given, way, **watch, **held)

    def edit(
        self,
        images,
        strength=0.5,
        seed=None,
        solver=None,
        steps=None,
        progress=False,
        on_step=None,
        **conditions,
    ):
        """Return new versions of images, by noise and back (Meng et al., 2022).

        SDEdit, https://arxiv.org/abs/2108.01073. With `labels` other than the images'
        own, something of them in the hand of the images.

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
            strength: The time of the noise, above 0 and up to 1: more keeps less.
            seed, solver, progress, on_step, **conditions: As in `generate`.
            steps: Of the whole way; the share `strength` of them is taken.

        Returns:
            float32 (N, height, width, channels) in [0, 1].
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength is above 0 and up to 1, not {strength!r}.")
        images = self._signed(images)
        way = self._way(solver, steps, start=strength)
        way["steps"] = max(1, round(way["steps"] * strength))
        given = self._conditioned(len(images), conditions)
        alpha, sigma = (np.float32(v) for v in self.schedule(np.float64(strength)))

        def draws(size):
            first = 0
            for noise in self._draws(len(images), seed, self._table(**way), size):
                rows = np.s_[first : first + len(noise["start"])]
                noise["start"] = alpha * images[rows] + sigma * noise["start"]
                first = rows.stop
                yield noise

        return self._walk(len(images), draws, given, way, progress, on_step)

    def interpolate(self, steps=8, num=1, seed=None, labels=None, guidance=None):
        """Return images on arcs between pairs of noises, by the model's own solver.

        Args:
            steps: Images on each arc, its ends included, 2 or more.
            num: How many arcs.
            seed: As in `generate`.
            labels, guidance: As in `generate`, one number or one for each arc.

        Returns:
            float32, (num, steps, height, width, channels) in [0, 1].
        """
        check_arcs(steps, num)
        given = {"labels": labels, "guidance": guidance}
        given = {key: value for key, value in given.items() if value is not None}
        given = self._conditioned(num, given)
        way = self._way()
        noise = next(self._draws(2 * num, seed, self._table(**way), 2 * num))
        first, second = noise.pop("start").reshape(2, num, 1, *self.image_shape)
        turn = np.linspace(0, np.pi / 2, steps, dtype="float32").reshape(-1, 1, 1, 1)
        # An arc of two independent noises is as long as they are, everywhere.
        start = np.cos(turn) * first + np.sin(turn) * second
        parts = {"start": start.reshape(-1, *self.image_shape)}
        for key, array in noise.items():
            parts[key] = np.repeat(array[:num], steps, axis=0)
        given = [np.repeat(values, steps, axis=0) for values in given]
        draws = functools.partial(_cut, parts)
        images = self._walk(num * steps, draws, given, way)
        return images.reshape(num, steps, *self.image_shape)

    def _signed(self, images):
        """Return images as `fit` takes them as float32 in [-1, 1], by NumPy."""
        images = self._prepare(images)
        scale = 255 if images.dtype == np.uint8 else 1
        return images.astype("float32") * np.float32(2 / scale) - 1


def _cut(arrays, size):
    """Yield dicts of arrays of one length in parts."""
    for first in range(0, len(arrays["start"]), size):
        yield {key: array[first : first + size] for key, array in arrays.items()}
