"""Gradients, devices and compilation on whichever backend Keras runs.

The only file that asks which backend it is. Above it, these are known:

    minimize(loss_fn, variables, optimizer, model)  one optimizer step
    input_gradient(fn, x)      gradient of sum(fn(x)) in x, itself differentiable
    stateful(step)             lets a Keras step assign variables, also on JAX
    compiled(fn, model)        `fn`, reading the model's variables, compiled if possible
    scan(step, state, inputs, count)  a loop over the first axis, or its first `count`
    steady(model, x, y, how)   what `fit` takes in their place, so that epochs just end
    scope(model)               where what belongs to a model's devices is made
    accelerator()              name of the GPU or TPU it computes on, None on a CPU
    split_jit(model, jit)      what Keras compiles, and what each replica compiles
    whole_array(variable)      its value as NumPy, wherever its parts lie
"""

import contextlib
import functools
import random

import numpy as np

from zoo import _start

_start.require_backend()
with _start.quietly():
    import keras

    NAME = keras.backend.backend()
    if NAME == "tensorflow":
        import tensorflow as tf

        tf.config.list_physical_devices()

if NAME == "tensorflow":

    def accelerator():
        found = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in found]
        return details[0].get("device_name", "a GPU") if found else None

    def scope(model):
        return model.distribute_strategy.scope()

    def split_jit(model, jit):
        strategy = model.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise ValueError(
                "Keras 3 does not train under MultiWorkerMirroredStrategy. Several "
                "hosts train on JAX: KERAS_BACKEND=jax zoo train --strategy "
                "data_parallel, see docs/scaling.md."
            )
        if strategy.num_replicas_in_sync == 1:
            return jit, False
        # Keras compiles around strategy.run, which fails once two devices hold
        # variables: compile within it instead.
        gpu = bool(tf.config.list_physical_devices("GPU"))
        return False, gpu if jit == "auto" else jit

    KERAS_KNOWS = "sample_weight", "class_weight", "validation_split", "steps_per_epoch"
    HOOKS = [keras.utils.PyDataset.on_epoch_begin, keras.utils.PyDataset.on_epoch_end]

    def steady(model, x, y, how):
        """Let epochs end at once: give `fit` a pipeline that TensorFlow does not tune.

        As an iterator ends, the tuner's thread is woken before it can see that it is
        cancelled. On busy cores it then sleeps on, up to as long as the epoch took.
        """
        with scope(model):
            if tf.distribute.has_strategy() or how.keys() & KERAS_KNOWS:
                return x, y, how
        arrays = [part for part in (x, y) if part is not None]
        if isinstance(x, keras.utils.PyDataset) and y is None:
            hooks = [getattr(type(x), f"on_epoch_{end}") for end in ("begin", "end")]
            if hooks != HOOKS or x.workers > 1 or not x.num_batches:
                return x, y, how
            steps, data = x.num_batches, _batches(x, how.get("shuffle", True))
        elif all(isinstance(array, np.ndarray) for array in arrays) and len(x):
            if len(arrays[-1]) != len(x) or how.get("shuffle") == "batch":
                return x, y, how
            size = how.get("batch_size") or 32
            steps = -(-len(x) // size)
            data = _rows(arrays, size, steps, how.get("shuffle", True))
        else:
            return x, y, how
        data = data.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
        options = tf.data.Options()
        options.autotune.enabled = False
        rest = {k: v for k, v in how.items() if k != "batch_size"}
        return data.with_options(options), None, {**rest, "shuffle": False}

    def _batches(x, shuffle):
        """Return the batches of a `PyDataset`, of shapes that its first two have."""

        def get(index):
            return tuple(batch) if isinstance(batch := x[index], list) else batch

        def spec(*arrays):
            shapes = zip(*(array.shape[1:] for array in arrays))
            shape = [sizes[0] if len({*sizes}) == 1 else None for sizes in shapes]
            return tf.TensorSpec((None, *shape), arrays[0].dtype)

        some = [get(index) for index in range(min(2, x.num_batches))]
        signature = keras.tree.map_structure(spec, *some)

        def produce():
            order = list(range(len(x)))
            if shuffle:
                random.shuffle(order)
            yield from map(get, order)

        return tf.data.Dataset.from_generator(produce, output_signature=signature)

    def _rows(arrays, size, steps, shuffle):
        """Return the batches of arrays, shuffled anew in every epoch."""
        with tf.device("CPU"):
            floats = {"f": keras.config.floatx()}
            kinds = [floats.get(array.dtype.kind) for array in arrays]
            parts = tuple(map(tf.convert_to_tensor, arrays, kinds))
        rows = tf.range(len(arrays[0]))

        def epoch(seed):
            order = rows
            if shuffle:
                seeds = tf.stack([seed, 0])
                order = tf.random.experimental.stateless_shuffle(rows, seeds)
            return tf.data.Dataset.range(steps).map(lambda i: batch(order, i * size))

        def batch(order, start):
            chosen = order[start : start + size]
            return tuple(tf.gather(part, chosen) for part in parts)

        every = tf.data.Dataset.random(rerandomize_each_iteration=True)
        return every.take(1).flat_map(epoch)

    def _replica():
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def _replicas():
        return tf.distribute.get_strategy().num_replicas_in_sync

    def _gradients(pure, values, rest, scale, jit):
        def run(values, rest, scale):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                loss, updates = pure(values, rest)
                scaled = loss * scale
            return loss, tape.gradient(scaled, values), updates

        if jit:  # Made anew, so that it belongs to this replica.
            run = tf.function(run, jit_compile=True, autograph=False)
        values, rest = ([tf.convert_to_tensor(v) for v in x] for x in (values, rest))
        return run(values, rest, scale)

    def _mean(tensors):
        context = tf.distribute.get_replica_context()
        dense = [None if t is None else tf.convert_to_tensor(t) for t in tensors]
        present = [t for t in dense if t is not None]
        means = iter(context.all_reduce(tf.distribute.ReduceOp.MEAN, present))
        return [None if t is None else next(means) for t in dense]

    ADAMS = keras.optimizers.Adam, keras.optimizers.AdamW

    def _adam(optimizer, grads, variables, rate):
        """Do as `Adam.update_step`, by one operation for its thirty a variable."""
        moments = zip(optimizer._momentums, optimizer._velocities)
        moments = dict(zip(map(id, optimizer._trainable_variables), moments))
        step = tf.cast(optimizer.iterations + 1, "float32")
        betas = {"beta1": optimizer.beta_1, "beta2": optimizer.beta_2}
        numbers = {f"{name}_power": beta**step for name, beta in betas.items()}
        numbers |= {**betas, "lr": rate, "epsilon": optimizer.epsilon}

        @functools.cache
        def cast(dtype):
            return {name: tf.cast(number, dtype) for name, number in numbers.items()}

        for grad, variable in zip(grads, variables):
            m, v = moments[id(variable)]
            resources = {"var": variable, "m": m, "v": v}
            tf.raw_ops.ResourceApplyAdam(
                **{name: each.value.handle for name, each in resources.items()},
                **cast(variable.dtype),
                grad=tf.cast(grad, variable.dtype),
            )

    def _apply(optimizer, grads, variables, updates, sound, always):
        strategy = tf.distribute.get_strategy()
        one = not tf.distribute.has_strategy()
        tpus = not one and not strategy.extended._use_merge_call()
        parts = optimizer, getattr(optimizer, "inner_optimizer", optimizer)
        for part in parts:
            part._all_reduce_sum_gradients = list  # They are means already.
            if type(part) in ADAMS and not part.amsgrad and not tpus:
                part._backend_update_step = functools.partial(_adam, part)
        if one or tpus:
            if always:
                optimizer.apply(grads, variables)
            else:
                tf.cond(sound, lambda: optimizer.apply(grads, variables), lambda: None)
            for variable, value in updates:
                variable.assign(tf.where(sound, value, variable))
            return

        # Mirrored variables cannot change inside a tf.cond within a replica, so the
        # replicas merge, and split again in the branch that is taken.
        def merged(strategy, grads, values, sound):
            def first(value):
                return strategy.experimental_local_results(value)[0]

            def take():
                args = (grads, variables)
                strategy.extended.call_for_each_replica(optimizer.apply, args=args)

            take() if always else tf.cond(first(sound), take, lambda: None)
            for (variable, _), value in zip(updates, values):
                old, new = variable.value, first(value)
                old.assign(tf.where(first(sound), new, tf.convert_to_tensor(old)))

        for part in parts:
            if part.gradient_accumulation_steps or part.ema_overwrite_frequency:
                raise ValueError(
                    "Under MirroredStrategy Keras has neither "
                    "gradient_accumulation_steps nor ema_overwrite_frequency: take a "
                    "larger batch, or JAX or torch."
                )
        args = (grads, [value for _, value in updates], sound)
        tf.distribute.get_replica_context().merge_call(merged, args=args)

    def input_gradient(fn, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(fn(x))
        return tape.gradient(y, x)

    def stateful(step):
        return step

    def scan(step, state, inputs, count=None):
        # Keras's own wants outputs of the state's structure, and keeps all of them.
        flatten, pack = keras.tree.flatten, keras.tree.pack_sequence_as
        inputs_flat = [tf.convert_to_tensor(x) for x in flatten(inputs)]
        state_flat = [tf.convert_to_tensor(x) for x in flatten(state)]
        most, kept = inputs_flat[0].shape[0], []

        def one(flat, now):
            new, output = step(pack(state, flat), pack(inputs, now))
            kept.append(output)
            return flatten(new), flatten(output)

        # A function, so that its outputs are known before the loop that calls it.
        one = tf.function(one, autograph=False).get_concrete_function(
            state_flat, [x[0] for x in inputs_flat]
        )
        outputs = [
            tf.TensorArray(y.dtype, most, element_shape=y.shape)
            for y in one.structured_outputs[1]
        ]
        read = [
            tf.TensorArray(x.dtype, most, element_shape=x.shape[1:]).unstack(x)
            for x in inputs_flat
        ]

        def body(i, flat, outputs):
            new, output = one(flat, [x.read(i) for x in read])
            return i + 1, new, [y.write(i, v) for y, v in zip(outputs, output)]

        _, flat, outputs = tf.while_loop(
            lambda i, *_: i < (most if count is None else count),
            body,
            (0, state_flat, outputs),
            maximum_iterations=most,  # XLA takes gradients of such loops only.
        )
        return pack(state, flat), pack(kept[0], [y.stack() for y in outputs])

    def compiled(fn, model):
        # Transposed convolutions take XLA twice as long on CPUs with AVX-512, and half
        # as long on those without: `compile(jit_compile=True)` asks for it.
        transposed = keras.layers.Conv2DTranspose, keras.layers.Conv1DTranspose
        slow = any(isinstance(layer, transposed) for layer in model._flatten_layers())
        asked = model.compiled and model.jit_compile
        slow = slow or model.slow_in_xla
        jit = asked or not slow or bool(tf.config.list_physical_devices("GPU"))
        return tf.function(fn, jit_compile=jit, autograph=False)

elif NAME == "torch":
    import torch
    import torch.distributed as dist

    def accelerator():
        return torch.cuda.get_device_name() if torch.cuda.is_available() else None

    def _replicas():
        there = dist.is_available() and dist.is_initialized()
        return dist.get_world_size() if there else 1

    def _replica():
        return dist.get_rank() if _replicas() > 1 else 0

    def _gradients(pure, values, rest, scale, jit):
        loss, updates = pure(values, rest)
        grads = torch.autograd.grad(loss * scale, values, allow_unused=True)
        updates = [None if u is None else u.detach() for u in updates]
        return loss.detach(), grads, updates

    def _mean(tensors):
        # torch.autograd.grad goes around DDP's hooks, so average by hand, all at once.
        present = [t for t in tensors if t is not None]
        flat = torch.cat([t.reshape(-1) for t in present])
        dist.all_reduce(flat)
        parts = (flat / _replicas()).split([t.numel() for t in present])
        means = iter(part.view_as(t) for part, t in zip(parts, present))
        return [None if t is None else next(means) for t in tensors]

    @torch.no_grad()
    def _apply(optimizer, grads, variables, updates, sound, always):
        if always or sound:
            optimizer.apply(list(grads), variables)
        if sound:
            for variable, value in updates:
                variable.assign(value)

    def input_gradient(fn, x):
        with torch.enable_grad():  # evaluate() runs under no_grad.
            x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
            return torch.autograd.grad(fn(x).sum(), x, create_graph=True)[0]

    def stateful(step):
        return step

    def scan(step, state, inputs, count=None):
        outputs = []
        most = len(keras.tree.flatten(inputs)[0])
        for i in range(most if count is None else int(count)):
            now = keras.tree.map_structure(lambda x, i=i: x[i], inputs)
            state, output = step(state, now)
            outputs.append(output)
        return state, keras.tree.map_structure(lambda *y: torch.stack(y), *outputs)

    def compiled(fn, model):
        return torch.no_grad()(fn)  # torch.compile needs a C++ toolchain.

elif NAME == "jax":
    import itertools

    import jax

    def accelerator():
        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind

    def _replica():
        return 0

    def _replicas():
        return 1  # Keras shards the batch; a mean over it is one over all devices.

    def _gradients(pure, values, rest, scale, jit):
        def scaled(values):
            loss, updates = pure(values, rest)
            return loss * scale, (loss, updates)

        grads, (loss, updates) = jax.grad(scaled, has_aux=True)(values)
        return loss, grads, updates

    def _apply(optimizer, grads, variables, updates, sound, always):
        old = [v.value for v in variables], [v.value for v in optimizer.variables]
        # Loss scaling branches inside apply, which JAX can do on values only.
        new = optimizer.stateless_apply(old[1], grads, old[0])
        for variable, value in zip(variables + optimizer.variables, new[0] + new[1]):
            kept = value if always else jax.numpy.where(sound, value, variable.value)
            variable.assign(kept)
        for variable, value in updates:
            variable.assign(jax.numpy.where(sound, value, variable.value))

    def whole_array(variable):
        if variable.value.is_fully_addressable or variable.value.is_fully_replicated:
            return keras.ops.convert_to_numpy(variable)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(variable.value, tiled=True)

    def input_gradient(fn, x):
        return jax.grad(lambda x: fn(x).sum())(x)

    def stateful(step):
        # Keras hands a JAX step the state and wants it back. Run the step in a
        # scope that remembers assignments, and read the new state off the scope.
        @functools.wraps(step)
        def pure_step(self, state, batch):
            groups = [
                self.trainable_variables,
                self.non_trainable_variables,
                self.optimizer.variables if len(state) == 4 else None,
                self.metrics_variables,
            ]
            groups = [g for g in groups if g is not None]  # evaluate() has no optimizer
            mapping = zip(itertools.chain(*groups), itertools.chain(*state))
            with keras.StatelessScope(list(mapping)) as scope:
                logs = step(self, batch)
            return logs, tuple(
                [scope.get_current_value(v) for v in group] for group in groups
            )

        return pure_step

    def scan(step, state, inputs, count=None):
        if count is None:
            return jax.lax.scan(step, state, inputs)

        def now(i):
            return keras.tree.map_structure(lambda x: x[i], inputs)

        def one(carry):
            i, state, outputs = carry
            state, new = step(state, now(i))
            put = functools.partial(
                jax.lax.dynamic_update_index_in_dim, index=i, axis=0
            )
            return i + 1, state, jax.tree.map(put, outputs, new)

        most = len(keras.tree.flatten(inputs)[0])
        shapes = jax.eval_shape(lambda: step(state, now(0))[1])
        outputs = jax.tree.map(
            lambda y: jax.numpy.zeros((most, *y.shape), y.dtype), shapes
        )
        carry = jax.lax.while_loop(lambda c: c[0] < count, one, (0, state, outputs))
        return carry[1:]

    def recur(cell, kernel, bias, state, inputs):
        """As below, but the gradient of the weights is one product after the loop.

        JAX itself would add up a whole matrix at each step.
        """

        def forward(kernel, bias, state, inputs):
            def one(state, x):
                past = _past(state["h"], kernel, bias)
                new = cell(past, x, state)
                return new, (new["h"], state, past)

            last, (hidden, *kept) = jax.lax.scan(one, state, inputs)
            return (hidden, last), (kernel, inputs, *kept)

        @jax.custom_vjp
        def run(*args):
            return forward(*args)[0]

        def backward(kept, gradients):
            (kernel, inputs, states, pasts), (hidden, last) = kept, gradients

            def one(gradient, now):
                hidden, x, state, past = now
                gradient = {**gradient, "h": gradient["h"] + hidden}
                past, x, before = jax.vjp(cell, past, x, state)[1](gradient)
                more = _product(past.astype(kernel.dtype), kernel.T)
                return {**before, "h": before["h"] + more}, (past, x)

            steps = hidden, inputs, states, pasts
            first, (pasts, inputs) = jax.lax.scan(one, last, steps, reverse=True)
            bias = pasts.sum((0, 1))
            pasts = pasts.astype(kernel.dtype)
            seen = states["h"].astype(kernel.dtype)
            change = jax.numpy.einsum(
                "tnh,tng->hg", seen, pasts, preferred_element_type="float32"
            )
            return change.astype(kernel.dtype), bias, first, inputs

        run.defvjp(forward, backward)
        return run(kernel, bias, state, inputs)

    def _product(x, kernel):
        return jax.numpy.matmul(x, kernel, preferred_element_type="float32")

    def _past(hidden, kernel, bias):
        return _product(hidden.astype(kernel.dtype), kernel) + bias

    def compiled(fn, model):
        @jax.jit
        def pure(values, *args):
            with keras.StatelessScope(list(zip(model.variables, values))):
                return fn(*args)

        return lambda *args: pure([v.value for v in model.variables], *args)

else:
    raise ImportError(
        f"The zoo runs on tensorflow, jax and torch; Keras is on {NAME!r}."
    )

if NAME != "tensorflow":

    def scope(model):
        return contextlib.nullcontext()

    def steady(model, x, y, how):
        return x, y, how

    def split_jit(model, jit):
        return jit, False


if NAME != "jax":

    def recur(cell, kernel, bias, state, inputs):
        """Read a sequence by a recurrent cell.

        Args:
            cell: (past, x, state) -> state, where `past` is what the kernel makes of
                the hidden state, with the bias, (n, width).
            kernel, bias: Tensors, (units, width) and (width,).
            state: dict with "h", (n, units).
            inputs: (steps, n, width).

        Returns:
            The hidden states, (steps, n, units), and the last state.
        """

        def one(state, x):
            past = keras.ops.matmul(keras.ops.cast(state["h"], kernel.dtype), kernel)
            state = cell(keras.ops.cast(past, "float32") + bias, x, state)
            return state, state["h"]

        state, hidden = scan(one, state, inputs)
        return hidden, state

    def whole_array(variable):
        return keras.ops.convert_to_numpy(variable)


def minimize(loss_fn, variables, optimizer, model):
    """Take one optimizer step on the mean of a loss over all replicas.

    A loss or gradient that is not finite leaves everything as it was: weights,
    optimizer, and what the loss itself assigned. With a scaled loss, gradients that
    overflow are the optimizer's affair, and no fault.

    Args:
        loss_fn: Returns a scalar; may assign variables, such as statistics.
        variables: Those that learn.
        optimizer: Of these variables.
        model: Its other variables are those that `loss_fn` may assign.

    Returns:
        The loss, and whether it was sound: a boolean tensor.
    """
    learned = {id(v) for v in variables}
    held = model.variables + model.metrics_variables
    others = [v for v in held if id(v) not in learned]
    replica = _replica() if _replicas() > 1 else 0

    def pure(values, rest):
        mapping = [*zip(variables, values), *zip(others, rest)]
        with keras.StatelessScope(mapping) as scope:
            before = [scope.get_current_value(v) for v in others]
            loss = keras.ops.cast(loss_fn(), "float32")
            after = [scope.get_current_value(v) for v in others]
        return loss, [a if a is not b else None for a, b in zip(after, before)]

    scale = optimizer.scale_loss(keras.ops.ones(()))
    values = [v.value for v in variables]
    rest = [_own(v, v.value, replica) for v in others]
    loss, grads, updates = _gradients(
        pure, values, rest, scale, getattr(model, "_jit_replicas", False)
    )
    updates = [(v, u) for v, u in zip(others, updates) if u is not None]
    if _replicas() > 1:
        statistics = {id(v) for v in model.weights if "float" in v.dtype}
        mixed = [v for v, _ in updates if id(v) in statistics]
        means = [u for v, u in updates if id(v) in statistics]
        loss, *means = _mean([loss, *grads, *means])
        grads, means = means[: len(grads)], means[len(grads) :]
        means = {id(v): mean for v, mean in zip(mixed, means)}
        updates = [(v, means.get(id(v), _own(v, u, -replica))) for v, u in updates]
    finite = keras.ops.isfinite(loss)
    present = [g for g in grads if g is not None]
    checks = [keras.ops.all(keras.ops.isfinite(g)) for g in present]
    sound = keras.ops.all(keras.ops.stack([finite, *checks]))
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    _apply(optimizer, grads, variables, updates, sound, always=scaled)
    return loss, finite if scaled else sound


def _own(variable, value, replica):
    """Move the state of a seed, so that each replica draws noise of its own."""
    if variable.name != "seed_generator_state" or _replicas() == 1:
        return value
    step = keras.ops.convert_to_tensor([1_000_003, 0], variable.dtype)
    return value + step * keras.ops.cast(replica, variable.dtype)
