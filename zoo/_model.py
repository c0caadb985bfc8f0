"""What every model of the zoo shares: how it learns, samples and is saved."""

import functools
import inspect
import math
import reprlib
import threading

import keras
import numpy as np

from zoo._backend import compiled, minimize, scope, split_jit, stateful, steady
from zoo._faults import Guard
from zoo._optimizers import Team, free, from_recipe

VERBS = (
    *("generate", "stream", "encode", "decode", "reconstruct", "interpolate"),
    *("translate", "inpaint", "edit", "fill", "embed", "chat"),
    *("score", "elbo", "classify", "features"),
    *("fit", "adapt", "merge", "evaluate", "save_adapter", "save_preset", "export"),
)
BUCKETS = (1, 4, 16, 64, 256)  # Batch sizes that are compiled; others are padded.
FUNCTIONS = 64  # Compiled functions that a model keeps; the oldest go.
BYTES = 8 * 2**30  # Most that one call of generate returns.
TRACING = threading.RLock()  # One thread at a time traces a new function.


class Model(keras.Model):
    """A Keras model that owns its objective and can sample.

    A subclass draws in `noise()`, turns noise into data in `sample()`, and says
    what it learns in `objective()` or, when several networks learn against each
    other, in `turns()`. The arguments it is built with are its config.

    Attributes:
        medium: What it makes and learns from: "images", "text", "music", …
        config: The arguments of the constructor, which JSON can hold.
        recipe: How the weights were or will be made; `compile()` starts from it.
        card: What the config.json of its preset says, and the preset's "name"; empty
            for a model that was not loaded.
        classes: Number of labels the model is conditioned on; None for none.
        image_shape: Height, width and channels of the images; None if of none.
        options: Arguments of `noise` that `generate` takes too.
        pairs: Whether it learns from two arrays: of images of that shape, or of texts.
        starts_from: Other classes whose weights it can go on from.
        slow_in_xla: Whether TensorFlow on a CPU runs its verbs faster without XLA.
        learns_by: Name and rate of the optimizer that it has without a recipe.
    """

    medium = "images"
    classes = None
    image_shape = None
    options = ()
    pairs = False
    starts_from = ()
    slow_in_xla = False
    learns_by = "adam", 1e-3

    def __new__(cls, *args, **kwargs):
        model = super().__new__(cls, *args, **kwargs)
        bound = inspect.signature(cls.__init__).bind(model, *args, **kwargs)
        bound.apply_defaults()
        own = {k: v for k, v in bound.arguments.items() if k != "self"}
        vars(model).update(config=own, recipe={}, card={}, _functions={})
        return model

    def get_config(self):
        return dict(self.config)

    def starts(self, other):
        """Go on from the weights of a model of the same sizes.

        Raises:
            ValueError: They do not fit.
        """
        self.set_weights(other.get_weights())

    # What a model says about itself

    def objective(self, *batch):
        """Return the scalar this model makes small."""
        raise NotImplementedError(
            f"{type(self).__name__} defines neither objective() nor turns()."
        )

    def turns(self):
        """List who learns from a batch, in order: (name, layer, its loss)."""
        return [("loss", self, self.objective)]

    def noise(self, num, seed=None):
        """Draw, with NumPy, what `num` samples are made from: an array or a dict."""
        raise NotImplementedError(f"{type(self).__name__} defines no noise().")

    def sample(self, noise):
        """Turn noise into data: a pure function of tensors, so it can be exported."""
        raise NotImplementedError(f"{type(self).__name__} defines no sample().")

    def signatures(self):
        """Name the methods an export carries, each with example arguments.

        Returns:
            dict: Signature name to (method name, dict of argument name to array);
            the first axis of every array is the batch.
        """
        noise = self.noise(1, seed=0)
        return {"generate": ("sample", {"noise": noise, **self.conditions(1)})}

    # What a user asks of it

    def verbs(self):
        """Return the names of what this model can do."""
        silent = type(self).noise is Model.noise
        return [
            verb
            for verb in VERBS
            if hasattr(type(self), verb) and not (silent and verb == "generate")
        ]

    def generate(self, num=1, seed=None, **conditions):
        """Return `num` new samples.

        Several threads may call it at once, but not while `fit` changes the weights.

        Args:
            num: How many, 1 to 100,000, and at most 8 GiB of images.
            seed: A whole number of 0 or more: the same seed gives the same samples
                on every backend. None draws a fresh one.
            **conditions: What the model is conditioned on: `labels`, one number or
                one for each sample, for a model with `classes`; all labels in turn
                when not given; and the `options` of the model, such as the
                `truncation` of a GAN.

        Returns:
            NumPy array of the samples; images are float32, (num, height, width,
            channels) in [0, 1].

        Raises:
            ValueError: `num`, `seed` or a condition is out of range or unknown.
        """
        num = self._number(num)
        options = {k: conditions.pop(k) for k in self.options if k in conditions}
        conditions = self.conditions(num, **conditions)
        noise = self.noise(num, seed, **options)
        return self._run("sample", noise, *conditions.values())

    def _number(self, num):
        """Return how many samples are asked for, or say why they are too many."""
        if "generate" not in self.verbs():
            raise AttributeError(self._no_verb("generate"))
        num, each = self._count(num), 4 * math.prod(self.image_shape or ())
        if num * each > BYTES:
            raise ValueError(
                f"generate returns at most {BYTES >> 30} GiB, here {BYTES // each:,} "
                f"samples; {num:,} are {num * each / 2**30:.1f} GiB. Ask several times."
            )
        return num

    def conditions(self, num, **given):
        """Check the conditions of `num` samples and return them as arrays."""
        known = ["labels"] if self.classes else []
        for name in given:
            if name not in known:
                takes = ", ".join([*known, *self.options]) or "none"
                raise ValueError(
                    f"This {type(self).__name__} has no condition {name!r}; "
                    f"it takes {takes}."
                )
        if not self.classes:
            return {}
        labels = given.get("labels")
        if labels is None:
            labels = np.arange(num) % self.classes
        return {"labels": self._labels(labels, num)}

    def save_preset(self, folder, dtype="float32", **card):
        """Write a preset that `zoo.load(folder)` reads: weights, config and card.

        Of a preset of the zoo that `adapt` changed, the adapter alone is written, some
        kilobytes, in place of the weights.

        Args:
            folder: Where to; it is made if missing, and files in it are replaced.
            dtype: Of the weights in the file: "float32", "float16", "bfloat16", which
                is float16 rounded to the eight significant bits of bfloat16 and
                deflated, or "bfloat14", the smallest, with six bits.
            **card: Entries of config.json to set, such as `summary` or `licence`.
        """
        from zoo._saving import save_preset

        save_preset(self, folder, dtype, **card)

    def export(
        self,
        path,
        format="saved_model",
        batch=None,
        quantize=None,
        steps=None,
        verbose=True,
    ):
        """Write the whole sampler, noise in and data out, for use without Keras.

        Args:
            path: Folder to write: the model, model.json that describes it, a guide and
                reference outputs. Or, ending in .tflite, the LiteRT file alone.
            format: "litert" for phones or "saved_model" for TensorFlow Serving.
            batch: Samples drawn by one call; None for 1, and of a SavedModel 8 and 32
                too.
            quantize: Of litert: "float16", "int8-dynamic", "int8", or None for float32.
            steps: Of a diffusion model, steps of its solver; None for its own.
            verbose: Whether to print a table of the signatures.

        Returns:
            dict: Signature name to the largest difference from Keras.
        """
        from zoo._export import export

        return export(self, path, format, batch, quantize, steps, verbose)

    # How it learns

    def adapt(self, paths, rank=4, alpha=8.0):
        """Let only low-rank matrices of some layers learn from now on (LoRA).

        Hu et al., 2021, https://arxiv.org/abs/2106.09685; of dense layers and of
        convolutions, not transposed ones. `save_adapter` keeps them,
        `zoo.load(preset, adapter=folder)` reads them, `merge` adds them in.

        Args:
            paths: A regular expression that paths of layers are searched for, such as
                "query_dense|value_dense" or "conv2d"; one that none has names them all.
            rank: Rows of the smaller matrices, 1 or more.
            alpha: Their product is multiplied by alpha / rank.
        """
        from zoo._lora import adapt

        adapt(self, paths, rank, alpha)

    def save_adapter(self, folder):
        """Write the low-rank matrices of `adapt` and whose weights they belong to."""
        from zoo._lora import save

        save(self, folder)

    def merge(self):
        """Return a plain model that computes what this one does with its adapter."""
        from zoo._lora import merged

        return merged(self)

    def compile(self, optimizer=None, jit_compile="auto", **kwargs):
        """Prepare for `fit`; without arguments, with the preset's own optimizer.

        Args:
            optimizer: A Keras optimizer, its name, or a dict with one for each name
                in `turns()`. None takes the recipe's, at its starting rate, or that
                of the class, `learns_by`.
            jit_compile: Whether XLA compiles the step: True, False or "auto". Of
                several devices on TensorFlow, each compiles loss and gradients.
            **kwargs: As in `keras.Model.compile`, without `loss`.
        """
        turns = self.turns()
        names = list(dict.fromkeys(name for name, _, _ in turns))
        kwargs["jit_compile"], self._jit_replicas = split_jit(self, jit_compile)
        with scope(self):
            if optimizer is None:
                own = dict(zip(("name", "learning_rate"), self.learns_by))
                optimizer = from_recipe({"optimizer": own, **self.recipe}, names)
            if isinstance(optimizer, dict):
                optimizer = Team(optimizer, {name: layer for name, layer, _ in turns})
                kwargs["auto_scale_loss"] = False  # Each member scales its own.
            super().compile(optimizer=optimizer, **kwargs)
            self.optimizer.build(self.trainable_variables)
            self._means = {name: keras.metrics.Mean(name=name) for name in names}
            self._faults = {name: keras.metrics.Sum(name=f"{name}_") for name in names}

    def fit(self, x=None, y=None, **kwargs):
        """Train, as `keras.Model.fit`: on images, on images and labels, or on pairs.

        Args:
            x: Images, (N, height, width, channels): float in [0, 1], or uint8; or
                a dataset that yields batches of them.
            y: Labels, (N,) whole numbers, for a model with `classes`; images, as `x`,
                for one from image to image.
            **kwargs: As in `keras.Model.fit`: epochs, batch_size, callbacks, …

        Returns:
            The Keras history.
        """
        if not self.compiled:
            self.compile()
        if self.image_shape and isinstance(x, np.ndarray):
            x = self._prepare(x)
            y = self._prepare(y) if self.pairs and y is not None else y
        callbacks = kwargs.pop("callbacks", None) or []
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks), Guard()]
        x, y, kwargs = steady(self, x, y, kwargs)
        history = super().fit(x, y, callbacks=callbacks, **kwargs)
        free(self)
        return history

    @property
    def metrics(self):
        return [*self._means.values(), *self._faults.values()] if self.compiled else []

    def get_metrics_result(self):
        """Return the mean of each loss, and how many updates were skipped."""
        means = {name: mean.result() for name, mean in self._means.items()}
        skipped = sum(fault.result() for fault in self._faults.values())
        return {**means, "skipped": skipped}

    def _batch(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is not None:
            raise ValueError(f"{type(self).__name__} takes no sample weights.")
        if (y is None) == bool(self.classes or self.pairs):
            takes = "images, labels" if self.classes else self.medium
            takes = f"{takes}, {takes}" if self.pairs else takes
            raise ValueError(f"{type(self).__name__} learns by fit({takes}).")
        return (x,) if y is None else (x, y)

    @stateful
    def train_step(self, data):
        batch = self._batch(data)
        members = getattr(self.optimizer, "members", {})
        for name, layer, loss in self.turns():
            optimizer = members.get(name, self.optimizer)
            step = functools.partial(loss, *batch)
            value, sound = minimize(step, layer.trainable_variables, optimizer, self)
            weight = keras.ops.cast(sound, "float32")
            value = keras.ops.where(sound, value, 0.0)
            self._means[name].update_state(value, sample_weight=weight)
            self._faults[name].update_state(1.0 - weight)
        return self.get_metrics_result()

    @stateful
    def test_step(self, data):
        batch = self._batch(data)
        for name, _, loss in self.turns():
            with keras.StatelessScope([(v, v.value) for v in self.variables]) as scope:
                value = loss(*batch)
            # Of what a loss assigns, statistics are for training; seeds go on.
            for variable in self.variables:
                if variable.name == "seed_generator_state":
                    variable.assign(scope.get_current_value(variable))
            self._means[name].update_state(value)
        return {name: mean.result() for name, mean in self._means.items()}

    # Plumbing that models share

    def __getattr__(self, name):
        if name in VERBS:
            raise AttributeError(self._no_verb(name))
        parent = getattr(super(), "__getattr__", None)  # torch's Module has one.
        if parent:
            return parent(name)
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _no_verb(self, name):
        has = ", ".join(self.verbs())
        return f"{type(self).__name__} has no verb {name!r}; it has {has}."

    def _run(self, method, *arrays, rows=None, **options):
        """Run `method` compiled over arrays of one length, in buckets of rows.

        Args:
            method: Name of a method of tensors, the batch first.
            *arrays: NumPy arrays, or dicts of them.
            rows: Most rows of one call; the largest bucket when None.
            **options: Python values that are compiled in.

        Returns:
            What the method returns, as NumPy, for all rows.
        """
        num, most = len(keras.tree.flatten(arrays)[0]), rows or BUCKETS[-1]
        parts = []
        for start in range(0, num, most):
            count = min(most, num - start)
            size = min(b for b in (*BUCKETS, most) if count <= b <= most)

            def cut(array, start=start, count=count, size=size):
                part = array[start : start + count]
                width = [(0, size - count)] + [(0, 0)] * (part.ndim - 1)
                return keras.ops.convert_to_tensor(np.pad(part, width, mode="edge"))

            out = self._call_compiled(
                method, options, keras.tree.map_structure(cut, arrays)
            )
            parts.append(
                keras.tree.map_structure(
                    lambda t, n=count: keras.ops.convert_to_numpy(t)[:n], out
                )
            )
        return keras.tree.map_structure(lambda *p: np.concatenate(p), *parts)

    def _call_compiled(self, method, options, tensors):
        """Run `method` as compiled for tensors of these shapes and these options."""
        kinds = [(tuple(t.shape), str(t.dtype)) for t in keras.tree.flatten(tensors)]
        key = (method, *sorted(options.items()), *kinds)
        function = self._functions.get(key)
        if function is not None:
            return function(*tensors)
        with TRACING:  # Threads that waited here find it made.
            function = self._functions.get(key)
            if function is None:
                bound = functools.partial(getattr(self, method), **options)
                function = compiled(bound, self)
            out = function(*tensors)  # Traces; kept only if that works.
            self._functions[key] = function
            for old in list(self._functions)[:-FUNCTIONS]:
                del self._functions[old]
        return out

    def _count(self, num):
        """Return the number of samples that is asked for, checked."""
        whole = isinstance(num, int | np.integer) and not isinstance(num, bool)
        if not whole or not 1 <= num <= 100_000:
            raise ValueError(
                f"num is a whole number from 1 to 100,000, not {reprlib.repr(num)}."
            )
        return int(num)

    def _blank(self):
        """Return a black image to trace with: (1, height, width, channels)."""
        return np.zeros((1, *self.image_shape), "float32")

    def _labels(self, labels, num, classes=None, name="labels"):
        """Return `num` labels as int32, or say why they are none."""
        array, classes = _array(labels, name), classes or self.classes
        if array.ndim > 1 or (array.ndim == 1 and len(array) != num):
            raise ValueError(
                f"{name} are one number or {num}, one for each sample; "
                f"their shape is {array.shape}."
            )
        whole = array.dtype.kind in "iuf" and np.all(array == np.floor(array))
        if not whole or array.min() < 0 or array.max() >= classes:
            raise ValueError(
                f"{name} are whole numbers from 0 to {classes - 1}, "
                f"not {reprlib.repr(labels)}."
            )
        return np.broadcast_to(array, (num,)).astype("int32")

    def _prepare(self, images):
        """Return images as float32 in [0, 1], or uint8, in the model's own shape."""
        images, shape = _array(images, "images"), tuple(self.image_shape)
        if images.ndim == 3 and shape[-1] == 1:
            images = images[..., None]  # (N, height, width)
        if images.ndim != 4 or images.shape[1:] != shape or not len(images):
            raise ValueError(
                f"images have the shape (N, {', '.join(map(str, shape))}) with N of 1 "
                f"or more; these have {images.shape}."
            )
        if images.dtype == np.uint8:
            return images
        if images.dtype.kind not in "fiub" or not np.isfinite(images).all():
            raise ValueError("images are finite numbers; these are not.")
        if images.min() < 0 or images.max() > 1:
            raise ValueError(
                "images lie in [0, 1], or are uint8 from 0 to 255; these lie in "
                f"[{images.min():g}, {images.max():g}] and are {images.dtype}."
            )
        return images.astype("float32")


def check_arcs(steps, num):
    """Refuse to go along so many arcs in so many steps."""
    whole = all(
        isinstance(n, int | np.integer) and not isinstance(n, bool)
        for n in (steps, num)
    )
    if not whole or steps < 2 or num < 1 or steps * num > 100_000:
        raise ValueError(
            "interpolate takes 2 steps or more on 1 arc or more, 100,000 images in "
            f"all; it got {steps!r} and {num!r}."
        )


def _array(values, name):
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # Ragged, on a GPU, …
        raise ValueError(
            f"{name} are an array of numbers, not {reprlib.repr(values)}."
        ) from error


def unit(images):
    """Return a tensor of images as float32 in [0, 1]; whole numbers are 0 to 255."""
    scale = 255.0 if "int" in keras.backend.standardize_dtype(images.dtype) else 1.0
    return keras.ops.cast(images, "float32") / scale


def binarize(images, generator):
    """Return grey pixels in [0, 1] drawn black or white by a NumPy generator."""
    return (generator.random(images.shape, dtype="float32") < images).astype("float32")
