"""What models that denoise share: what they learn, their samples, their likelihood.

A class that takes them in calls `_build` in its constructor, sets `network`, of images
(n, height, width, channels) in [-1, 1], times (n,) and, with classes, labels (n,), and
says in `prediction` what that returns.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from zoo._model import BUCKETS, BYTES, unit
from zoo._noise import philox
from zoo.diffusion import solvers
from zoo.diffusion._likelihood import Likelihood
from zoo.diffusion._pictures import Pictures
from zoo.diffusion.schedules import SCHEDULES, STEPS, even_times, times

# What a network may predict: the image D from x, the prediction F, α and σ.
IMAGE_OF = {
    "epsilon": lambda x, f, alpha, sigma: (x - sigma * f) / alpha,
    "x0": lambda x, f, alpha, sigma: f,
    "v": lambda x, f, alpha, sigma: alpha * x - sigma * f,
    "velocity": lambda x, f, alpha, sigma: x - sigma * f,  # Of straight paths.
}
# The same from the other side: F from the image, the noise, α and σ.
TARGET = {
    "epsilon": lambda image, noise, alpha, sigma: noise,
    "x0": lambda image, noise, alpha, sigma: image,
    "v": lambda image, noise, alpha, sigma: alpha * noise - sigma * image,
    "velocity": lambda image, noise, alpha, sigma: noise - image,
}


class Denoiser(Pictures, Likelihood):
    """objective, noise, sample, generate and the verbs of the two other parts."""

    solvers = ("ddpm", "ddim", "euler", "heun", "dpm++")

    def _build(
        self, image_shape, classes, schedule, prediction, drop, steps=20, guidance=1.0
    ):
        if schedule not in SCHEDULES or prediction not in IMAGE_OF:
            raise ValueError(
                f"schedule is one of {', '.join(SCHEDULES)} and prediction one of "
                f"{', '.join(IMAGE_OF)}, not {schedule!r} and {prediction!r}."
            )
        if not 0 <= drop < 1:
            raise ValueError(f"drop is a share of labels in [0, 1), not {drop}.")
        if guidance != 1 and not classes:
            raise ValueError(
                f"guidance is of a model with classes; it is {guidance!r}."
            )
        self.image_shape, self.classes = tuple(image_shape), classes
        self.schedule, self.prediction = SCHEDULES[schedule], prediction
        self.drop, self.seed = drop, keras.random.SeedGenerator()
        self.solver, self.guidance = self.solvers[-1], float(_guidance(guidance, 1)[0])
        self.steps = self._way(steps=steps)["steps"]

    # The network

    def call(self, images, times, labels=None, training=False):
        inputs = [images, times] if labels is None else [images, times, labels]
        return ops.cast(self.network(inputs, training=training), "float32")

    def denoise(self, images, times, labels=None, guidance=None):
        """Return the images that the network believes are in noisy ones, in [-1, 1].

        Args:
            images: α x + σ ε of images x in [-1, 1], (n, height, width, channels).
            times: In (0, 1], (n,).
            labels: (n,) for a model with `classes`; `classes` itself means unknown.
            guidance: (n,): 0 leaves the label out, 1 or None takes it as it is, more
                exaggerates what it changes (Ho & Salimans, 2022,
                https://arxiv.org/abs/2207.12598), at two evaluations.
        """
        if guidance is None:
            found = self(images, times, labels)
        else:
            unknown = ops.zeros_like(labels) + self.classes
            pairs = (images, images), (times, times), (labels, unknown)
            both = self(*(ops.concatenate(pair, axis=0) for pair in pairs))
            known, unknown = ops.split(both, 2, axis=0)
            found = unknown + wide(guidance) * (known - unknown)
        alpha, sigma = self._marginals(times)
        image = IMAGE_OF[self.prediction](images, found, alpha, sigma)
        return ops.clip(image, -1.0, 1.0)

    def _marginals(self, times):
        """Return α and σ at times (n,), to multiply images with."""
        return [wide(value) for value in self.schedule(times, ops)]

    # What it learns

    def _drawn(self, images, labels):
        """Return images in [-1, 1], noise, and labels of which some are dropped."""
        images = 2.0 * unit(images) - 1.0
        noise = keras.random.normal(ops.shape(images), seed=self.seed)
        if labels is not None:
            labels = ops.cast(labels, "int32")
            coin = keras.random.uniform(ops.shape(labels), seed=self.seed)
            labels = ops.where(coin < self.drop, self.classes, labels)
        return images, noise, labels

    def _errors(self, images, labels, times):
        """Return the mean squared error of each prediction, (n,), and α² / σ²."""
        images, noise, labels = self._drawn(images, labels)
        alpha, sigma = self._marginals(times)
        target = TARGET[self.prediction](images, noise, alpha, sigma)
        found = self(alpha * images + sigma * noise, times, labels, training=True)
        snr = ops.reshape(ops.square(alpha / sigma), (-1,))
        return ops.mean(ops.square(found - target), axis=(1, 2, 3)), snr

    def _chain_loss(self, images, labels, min_snr):
        """Return the mean error at 1,000 times, weighted by min-SNR."""
        times = (ops.floor(STEPS * even_times(images, self.seed)) + 1.0) / STEPS
        errors, snr = self._errors(images, labels, times)
        if min_snr:
            # The image's error is the prediction's over this.
            scale = {"epsilon": snr, "x0": 1.0, "v": snr + 1.0}[self.prediction]
            errors = errors * ops.minimum(snr, min_snr) / scale
        return ops.mean(errors)

    # How it samples

    def noise(self, num, seed=None, solver=None, steps=None, eta=0.0):
        """Draw what samples are made from.

        Args:
            num, seed, solver, steps, eta: As in `generate`.

        Returns:
            Standard normal numbers, (num, height, width, channels); of a solver that
            adds fresh noise a dict of these, "start", and of "fresh",
            (num, evaluations, height, width, channels).
        """
        table = self._table(**self._way(solver, steps, eta))
        return _single(next(self._draws(num, seed, table, num)))

    def sample(self, noise, labels=None, guidance=None, **way):
        """Return images in [0, 1] of what `noise` draws, in one loop.

        Args:
            noise: As `noise` returns; a dict may also hold "images" in [-1, 1] and
                "mask", 1 where these are kept and 0 where they are filled.
            labels, guidance: As in `denoise`.
            **way: solver, steps, eta, start (time) and rounds.
        """
        parts = noise if isinstance(noise, dict) else {"start": noise}
        denoise = self._denoise(parts, labels, guidance)
        table = self._table(**way)
        x = solvers.follow(denoise, parts["start"], table, parts.get("fresh"))
        return ops.clip(0.5 * x + 0.5, 0.0, 1.0)

    def step(self, state, labels=None, guidance=None, **way):
        """Return x_{k+1}, x_k and D_k: one evaluation of `sample`."""
        denoise = self._denoise(state, labels, guidance)
        old = state["x"], state["before"], state["last"]
        k, fresh = state["index"][0], state.get("fresh")
        return solvers.advance(denoise, self._table(**way), k, old, fresh)

    def _denoise(self, held, labels, guidance):
        """Return `denoise` as solvers want it, which knows what images hold."""

        def denoise(x, t):
            found = self.denoise(x, t, labels, guidance)
            if "mask" in held:  # What is known needs no network.
                found = found + held["mask"] * (held["images"] - found)
            return found

        return denoise

    def generate(
        self,
        num=1,
        seed=None,
        solver=None,
        steps=None,
        eta=0.0,
        progress=False,
        on_step=None,
        **conditions,
    ):
        """Return `num` new images.

        Args:
            num: How many, 1 to 100,000.
            seed: A whole number of 0 or more: the same seed gives the same images on
                every backend. None draws a fresh one.
            solver: One of `solvers`; None for the model's own.
            steps: Of the solver, 1 to 1,000, each one evaluation of the network, for
                "heun" two but for the last; None for the model's own.
            eta: Share of fresh noise of "ddim", 0 to 1.
            progress: Whether to show a bar of the steps.
            on_step: Function of (evaluations done, images): called after each with
                the images as they are by then, from noise to the result.
            **conditions: Of a model with `classes`: `labels`, one number or one for
                each image, all in turn when not given; `guidance`, one number or one
                for each, 0 to 100, the model's own when not given: above 1 more
                typical and less varied, at two evaluations a step in place of one.

        Returns:
            float32, (num, height, width, channels) in [0, 1].

        Raises:
            ValueError: An argument is out of range or unknown.
        """
        num = self._number(num)
        given = self._conditioned(num, conditions)
        way = self._way(solver, steps, eta)
        draws = functools.partial(self._draws, num, seed, self._table(**way))
        return self._walk(num, draws, given, way, progress, on_step)

    def conditions(self, num, guidance=None, **given):
        if not self.classes and guidance is not None:
            given["guidance"] = guidance  # Which is refused as it is.
        given = super().conditions(num, **given)
        if not self.classes:
            return given
        guidance = self.guidance if guidance is None else guidance
        return {**given, "guidance": _guidance(guidance, num)}

    def signatures(self):
        images, given = self._blank(), self.conditions(1)
        times = np.full((1,), 0.5, "float32")
        return {
            "generate": ("sample", {"noise": self.noise(1, seed=0), **given}),
            "denoise": ("denoise", {"images": images, "times": times, **given}),
        }

    # Plumbing

    def _conditioned(self, num, conditions):
        """Return what `sample` takes beside noise; no guidance where that is 1."""
        given = self.conditions(num, **conditions)
        if "guidance" in given and (given["guidance"] == 1).all():
            del given["guidance"]
        return list(given.values())

    def _way(self, solver=None, steps=None, eta=0.0, start=1.0, rounds=1):
        """Check how to walk; return it as what `_table` takes."""
        solver, steps = solver or self.solver, self.steps if steps is None else steps
        if solver not in self.solvers:
            known = ", ".join(self.solvers)
            raise ValueError(f"solver is one of {known}, not {solver!r}.")
        for name, value, most in (("steps", steps, 1000), ("rounds", rounds, 100)):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or not 1 <= value <= most:
                raise ValueError(
                    f"{name} is a whole number from 1 to {most:,}, not {value!r}."
                )
        if not 0 <= eta <= 1 or (eta and solver != "ddim"):
            raise ValueError(f"eta is 0 to 1, of ddim; this is {eta} of {solver}.")
        way = {"solver": solver, "steps": int(steps), "eta": float(eta)}
        return {**way, "start": float(start), "rounds": int(rounds)}

    def _table(self, solver=None, steps=None, eta=0.0, start=1.0, rounds=1):
        solver, grid = solver or self.solver, times(steps or self.steps, start)
        more = {"eta": eta} if eta else {}
        table = solvers.SOLVERS[solver](self.schedule, grid, **more)
        if rounds > 1:
            table = solvers.repeated(table, self.schedule, grid, rounds)
        return table

    def _draws(self, num, seed, table, size):
        """Yield the noise of up to `size` rows at a time; rows do not depend on it."""
        start, fresh = philox(seed), philox(seed, 1)
        for first in range(0, num, size):
            shape = (min(size, num - first), *self.image_shape)
            parts = {"start": start.standard_normal(shape, "float32")}
            if table.noise.any():
                shape = (shape[0], len(table.times), *self.image_shape)
                parts["fresh"] = fresh.standard_normal(shape, "float32")
            yield parts

    def _walk(self, num, draws, given, way, progress=False, on_step=None, **held):
        """Run `sample` over draws of noise, or step by step where someone watches.

        Args:
            num: Rows.
            draws: Function of the rows of a part: yields them.
            given: Labels and guidance.
            way: As `_table` takes it.
            progress, on_step: As in `generate`.
            **held: "images" and "mask" of `sample`.
        """
        if not (progress or on_step):
            parts, first = [], 0
            for noise in draws(BUCKETS[-1]):
                rows = np.s_[first : first + len(noise["start"])]
                noise |= {key: array[rows] for key, array in held.items()}
                cut = [array[rows] for array in given]
                parts.append(self._run("sample", _single(noise), *cut, **way))
                first = rows.stop
            return np.concatenate(parts)
        count = len(self._table(**way).times)
        if num * count * 4 * math.prod(self.image_shape) > BYTES:
            raise ValueError(
                f"Step by step takes at most {BYTES >> 30} GiB of noise; {num:,} "
                f"images in {count} steps are more. Ask several times."
            )
        noise = next(draws(num))
        x = noise["start"]
        state = {"x": x, "before": np.zeros_like(x), "last": np.zeros_like(x), **held}
        bar = keras.utils.Progbar(count) if progress else None
        for k in range(count):
            state["index"] = np.full((num,), k, "int32")
            if "fresh" in noise:
                state["fresh"] = noise["fresh"][:, k]
            found = self._run("step", state, *given, **way)
            state.update(zip(("x", "before", "last"), found))
            images = np.clip(0.5 * state["x"] + 0.5, 0.0, 1.0)
            if bar:
                bar.update(k + 1)
            if on_step:
                on_step(k + 1, images)
        return images


def wide(values):
    return ops.reshape(values, (-1, 1, 1, 1))


def _single(noise):
    """Return the start alone, where there is no more."""
    return noise["start"] if len(noise) == 1 else noise


def _guidance(guidance, num):
    """Return the guidance of each row, float32, or say why it is none."""
    array = np.asarray(guidance, dtype="float64")
    if array.shape not in ((), (num,)) or not ((array >= 0) & (array <= 100)).all():
        raise ValueError(
            f"guidance is a number from 0 to 100, or {num} of them; not {guidance!r}."
        )
    return np.broadcast_to(array, (num,)).astype("float32")
