"""Gradients and compilation on whichever backend Keras runs.

The only file that asks which backend it is. Each backend defines the same four:

    minimize(loss_fn, variables, optimizer, model)  one optimizer step, returns the loss
    input_gradient(fn, x)      gradient of sum(fn(x)) in x, itself differentiable
    stateful(step)             lets a Keras step assign variables, also on JAX
    compiled(fn, model)        `fn`, reading the model's variables, compiled if possible
"""

from zoo import _start

_start.require_backend()
with _start.quietly():
    import keras

    NAME = keras.backend.backend()
    if NAME == "tensorflow":
        import tensorflow as tf

        tf.config.list_physical_devices()

if NAME == "tensorflow":

    def minimize(loss_fn, variables, optimizer, model):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable.value)
            loss = loss_fn()
            scaled = optimizer.scale_loss(loss)
            # Keras sums gradients over replicas; we want their mean.
            scaled /= tf.distribute.get_strategy().num_replicas_in_sync
        grads = tape.gradient(scaled, [v.value for v in variables])
        optimizer.apply(grads, variables)
        return loss

    def input_gradient(fn, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(fn(x))
        return tape.gradient(y, x)

    def stateful(step):
        return step

    def compiled(fn, model):
        # XLA has no fast transposed convolution on a CPU: it takes twice as long there.
        transposed = keras.layers.Conv2DTranspose, keras.layers.Conv1DTranspose
        slow = any(isinstance(layer, transposed) for layer in model._flatten_layers())
        jit = not slow or bool(tf.config.list_physical_devices("GPU"))
        return tf.function(fn, jit_compile=jit, autograph=False)

elif NAME == "torch":
    import torch
    import torch.distributed as dist

    def minimize(loss_fn, variables, optimizer, model):
        loss = loss_fn()
        values = [v.value for v in variables]
        grads = torch.autograd.grad(
            optimizer.scale_loss(loss), values, allow_unused=True
        )
        with torch.no_grad():
            # torch.autograd.grad goes around DDP's hooks, so average by hand.
            if dist.is_available() and dist.is_initialized():
                for grad in grads:
                    dist.all_reduce(grad)
                    grad /= dist.get_world_size()
            optimizer.apply(list(grads), variables)
        return loss.detach()

    def input_gradient(fn, x):
        with torch.enable_grad():  # evaluate() runs under no_grad.
            x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
            return torch.autograd.grad(fn(x).sum(), x, create_graph=True)[0]

    def stateful(step):
        return step

    def compiled(fn, model):
        return torch.no_grad()(fn)  # torch.compile needs a C++ toolchain.

elif NAME == "jax":
    import functools
    import itertools

    import jax

    def minimize(loss_fn, variables, optimizer, model):
        learned = {id(v) for v in variables}
        others = [
            v for v in model.variables + model.metrics_variables if id(v) not in learned
        ]

        def stateless(values):
            mapping = [*zip(variables, values), *((v, v.value) for v in others)]
            with keras.StatelessScope(mapping) as scope:
                loss = loss_fn()
            updates = [scope.get_current_value(v) for v in others]
            return optimizer.scale_loss(loss), (loss, updates)

        values = [v.value for v in variables]
        grads, (loss, updates) = jax.grad(stateless, has_aux=True)(values)
        for variable, update in zip(others, updates):
            variable.assign(update)
        # Loss scaling branches inside apply, which JAX can do on values only.
        state = [v.value for v in optimizer.variables]
        values, state = optimizer.stateless_apply(state, grads, values)
        for variable, value in zip([*variables, *optimizer.variables], values + state):
            variable.assign(value)
        return loss

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
