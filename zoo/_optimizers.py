"""Optimizers as a recipe states them, and several of them as one."""

import contextlib
import reprlib

import keras
import numpy as np


def from_recipe(recipe, names, steps=None):
    """Return the optimizer of a recipe: one, or a dict where several networks learn.

    Args:
        recipe: dict with "optimizer": {"name": …, "learning_rate": …, …}, or a dict
            of such entries by name of turn; and maybe "schedule": {"name": "cosine",
            "warmup": share of the steps, "final": share of the learning rate}.
        names: The names in the model's `turns()`.
        steps: Training steps the schedule spans; None keeps the rate constant.
    """
    entry = recipe.get("optimizer", {"name": "adam", "learning_rate": 1e-3})
    if len(set(names)) > 1:
        return {
            name: _optimizer(entry.get(name, entry), recipe.get("schedule"), steps)
            for name in dict.fromkeys(names)
        }
    return _optimizer(entry, recipe.get("schedule"), steps)


def _optimizer(entry, schedule, steps):
    # A recipe may come from strangers: Keras would build objects from dicts.
    named = isinstance(entry, dict) and isinstance(entry.get("name"), str)
    if not named or any(isinstance(v, dict | list) for v in entry.values()):
        raise ValueError(
            "The optimizer of a recipe has a name and arguments that are numbers, "
            f"texts or truth values, not {reprlib.repr(entry)}."
        )
    config = {k: v for k, v in entry.items() if k != "name"}
    if schedule and steps:
        if schedule["name"] != "cosine":
            raise ValueError(f"A schedule is 'cosine', not {schedule['name']!r}.")
        warmup = int(schedule.get("warmup", 0) * steps)
        rate = config["learning_rate"]
        config["learning_rate"] = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(1, steps - warmup),
            alpha=schedule.get("final", 0.0),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    known = {n.lower(): kind for n, kind in vars(keras.optimizers).items()}
    kind = known.get(entry["name"].lower())  # keras.optimizers.get has no Lamb.
    if not (isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)):
        raise ValueError(f"Keras has no optimizer {entry['name'][:50]!r}.")
    return kind(**config)


class Team(keras.optimizers.Optimizer):
    """One optimizer for each learner, which Keras sees as a single optimizer.

    Under mixed_float16 each member scales its own loss, since the losses of
    networks that learn against each other overflow at different sizes.
    """

    def __init__(self, members, layers):
        super().__init__(learning_rate=0.0, name="team")
        missing = [n for n in layers if n not in members]
        unknown = [n for n in members if n not in layers]
        if missing or unknown:
            raise ValueError(
                f"compile() takes one optimizer for each of {', '.join(layers)}; "
                f"it got {', '.join(members)}."
            )
        scaled = keras.config.dtype_policy().name == "mixed_float16"
        self.members = {}
        for name, member in members.items():
            member = keras.optimizers.get(member)
            if scaled:
                member = keras.optimizers.LossScaleOptimizer(member)
            self.members[name] = member
        self.layers = layers

    def build(self, variables):
        super().build(variables)
        for name, member in self.members.items():
            member.build(self.layers[name].trainable_variables)

    @property
    def variables(self):
        own = super().variables
        return own + [v for m in self.members.values() for v in m.variables]

    def finalize_variable_values(self, variables):
        for name, member in self.members.items():
            member.finalize_variable_values(self.layers[name].trainable_variables)


def averages(optimizer):
    """Return the moving averages an optimizer keeps: (variable, its average)."""
    parts = getattr(optimizer, "members", {"": optimizer}).values()
    parts = [getattr(part, "inner_optimizer", part) for part in parts]
    return [
        pair
        for part in parts
        if part.use_ema
        for pair in zip(part._trainable_variables, part._model_variables_moving_average)
    ]


@contextlib.contextmanager
def averaged(model):
    """Hold in each weight, for a while, the moving average its optimizer keeps of it.

    Afterwards, also after an error, the weights have their own values again, to the
    bit. A weight without an average, or before its first step, stays as it is, and so
    does a model that is not compiled. Within `fit` it is for callbacks at the ends of
    epochs: amid them JAX has the values elsewhere.

    Args:
        model: A model of the zoo.
    """
    pairs = averages(model.optimizer) if model.compiled else []
    own = [_copy(variable) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            value = _copy(average)
            if value.any():  # All zeros until the first step.
                variable.assign(value)
        yield
    finally:
        for (variable, _), value in zip(pairs, own):
            variable.assign(value)


def _copy(variable):
    return np.array(keras.ops.convert_to_numpy(variable))  # On torch that is a view.


def free(model):
    """Give weights that a fit ended with as averages arrays of their own.

    On JAX, Keras leaves weight and average one array, which the next fit would donate
    to XLA twice.
    """
    for variable, _ in averages(model.optimizer):
        variable.assign(keras.ops.convert_to_numpy(variable))
