"""What happens when numbers stop being finite: updates are skipped, within limits."""

import keras


class Guard(keras.callbacks.Callback):
    """Stop a training that skips too many updates.

    `train_step` leaves out an update whose loss or gradient is not finite, and counts
    it as "skipped" in the logs of the epoch.

    Args:
        limit: Skipped updates that an epoch may have; None takes the recipe's
            "skip_limit", 10 if it has none.

    Raises:
        FloatingPointError: More were skipped; the message says where.
    """

    async_safe = True  # Keras need not wait for each step; steps are looked at later.

    def __init__(self, limit=None):
        super().__init__()
        self.limit = limit

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.first, self.skipped = epoch, None, 0

    def on_train_batch_end(self, batch, logs=None):
        skipped = int((logs or {}).get("skipped", 0))
        if skipped:
            self.first = min(batch, batch if self.first is None else self.first)
            self.skipped = max(skipped, self.skipped)

    def on_train_batch_begin(self, batch, logs=None):
        sync = getattr(self.model, "jax_state_sync", None)
        self._stop_beyond_limit(f"before step {batch + 1}", sync)

    def on_epoch_end(self, epoch, logs=None):
        self._stop_beyond_limit("at its end")

    def _stop_beyond_limit(self, place, sync=None):
        limit = self.limit
        if limit is None:
            limit = self.model.recipe.get("skip_limit", 10)
        if self.skipped <= limit:
            return
        if sync:
            sync()
        counts = {name: int(f.result()) for name, f in self.model._faults.items()}
        losses = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
        raise FloatingPointError(
            f"Epoch {self.epoch + 1}, {place}: {sum(counts.values())} updates had a "
            f"loss or gradient that is not finite and were skipped ({losses}; the "
            f"first in step {self.first + 1}); {limit} are allowed. A lower learning "
            "rate or clipping (global_clipnorm) may help; or look for extreme values "
            "in the data."
        )
