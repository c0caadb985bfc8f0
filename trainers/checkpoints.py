"""Checkpoints of everything a training needs to go on exactly where it stopped.

Weights, optimizers, averages, seeds and metrics are all Keras variables: one file holds
the values of all, and an epoch's shuffle follows from its number, so nothing else
counts. A file is named by what is done, epochs and steps of the next one; it is written
whole or not at all; the two newest are kept, and the best.
"""

import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np

from zoo._backend import whole_array
from zoo._saving import whole

FOLDER, BEST, KEPT = "checkpoints", "best.npz", 2
SECONDS = 600  # Between two checkpoints, within long epochs too.


class Checkpoint(keras.callbacks.Callback):
    """Save the whole state at the end of each epoch, every ten minutes, and on SIGTERM.

    On SIGTERM or Ctrl-C the step under way is finished and saved, and the process ends
    with status 143 or 130. A checkpoint that cannot be written, since the disk is full,
    is a warning: the training goes on, and the last good one stays.

    Args:
        folder: Where to.
        about: What is trained and how, JSON; `restore` compares it.
        monitor: The quantity whose lowest value is the best; None keeps no best.
        chief: Whether this process writes; of several, one does.
        skipped: Steps of its first epoch that `fit` leaves out, since they are done.
        metrics: Values of the metrics after these.
    """

    def __init__(self, folder, about, monitor, chief=True, skipped=0, metrics=None):
        super().__init__()
        self.folder, self.about, self.monitor = Path(folder) / FOLDER, about, monitor
        self.chief, self.skipped, self.resumed = chief, skipped, metrics
        self.best, self.said, self.signal, self.handlers = None, [], None, {}

    def on_train_begin(self, logs=None):
        self.saved = time.monotonic()
        if self.chief:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Exception):  # None yet, or damaged: the next is.
                self.best = _read(self.folder / BEST)[0]["value"]
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            # Of several processes the chief saves, and its end ends the others.
            handler = self._catch if self.chief else signal.SIG_IGN
            self.handlers[number] = signal.signal(number, handler)

    def _catch(self, number, frame):
        self.signal = number

    def on_epoch_begin(self, epoch, logs=None):
        self._tell()
        self.epoch = epoch
        if self.resumed is not None:
            _assign(self.model.metrics_variables, self.resumed)
            self.resumed = None

    # Not at a batch's end: with a callback there, Keras waits for each step's numbers.
    def on_train_batch_begin(self, batch, logs=None):
        late = time.monotonic() - self.saved > SECONDS
        if batch and (self.signal or late):
            sync = getattr(self.model, "jax_state_sync", None)
            if sync:
                sync()
            self._save(self.epoch, self.skipped + batch)
            self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        self.skipped = 0
        value = float(logs[self.monitor]) if self.monitor in (logs or {}) else None
        path = self._save(epoch + 1, 0, value)
        if path and value is not None and not value >= (self.best or np.inf):
            self.best = value
            try:
                with whole(self.folder / BEST) as scratch:
                    shutil.copyfile(path, scratch)
            except OSError as error:
                self._warn(f"the best one could not be kept: {error}")
        self._stop_if_asked()

    def on_train_end(self, logs=None):
        self._tell()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _save(self, epoch, step, value=None):
        """Write the state; return the path, or None if it was not to be."""
        start = self.saved = time.monotonic()
        arrays = [whole_array(v) for v in _variables(self.model)]  # All must join in.
        if not self.chief:
            return None
        done = {"epoch": epoch, "step": step, "value": value}
        text = json.dumps({**done, "about": self.about})
        path = self.folder / f"{epoch:05d}-{step:07d}.npz"
        try:
            with whole(path) as scratch, open(scratch, "wb") as file:
                np.savez(file, about=text, **{str(i): a for i, a in enumerate(arrays)})
        except OSError as error:
            self._warn(f"{path.name} could not be written: {error}")
            return None
        self.said.append(
            f"Checkpoint {path.name}: {path.stat().st_size / 1e6:.1f} MB in "
            f"{time.monotonic() - start:.2f} s."
        )
        for old in _all(self.folder)[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def _tell(self):
        """Print between the progress bars, not into them."""
        for line in self.said:
            print(line)
        self.said = []

    def _warn(self, text):
        last = _all(self.folder)[:1]
        kept = f"the last is {last[0].name}" if last else "there is none yet"
        print(f"\nWarning: no checkpoint, {text}; {kept}.", file=sys.stderr)

    def _stop_if_asked(self):
        if self.signal:
            name = signal.Signals(self.signal).name
            print()
            self._tell()
            print(f"Stopped by {name}; the same command with --resume goes on.")
            sys.stdout.flush()
            raise SystemExit(128 + self.signal)


def restore(model, folder, about):
    """Put a compiled model back to its newest checkpoint that is sound.

    Args:
        model: Compiled.
        folder: That of the training.
        about: What is trained and how.

    Returns:
        The epochs done, the steps done of the next, and its metrics' values so far;
        None for these at the end of an epoch.

    Raises:
        ValueError: The checkpoint follows another recipe, or none is readable.
    """
    home = Path(folder) / FOLDER
    for part in home.glob(".*.part"):  # Of a process that was killed.
        part.unlink()
    paths, damage = _all(home), []
    for path in paths:
        try:
            found, arrays = _read(path)
            break
        except Exception as error:  # What zip, NumPy and JSON make of damage.
            damage.append(f"{path.name} is damaged ({error})")
            print(f"Warning: {damage[-1]}; trying an older one.", file=sys.stderr)
    else:
        if paths:
            raise ValueError(
                f"No checkpoint in {home} can be read: {'; '.join(damage)}. "
                "Start anew in another --out."
            )
        return 0, 0, None
    _same(path, found["about"], about)
    variables = _variables(model)
    _assign(variables, arrays, path)
    print(f"Going on from {path}: {found['epoch']} epochs and {found['step']} steps.")
    if not found["step"]:  # Each epoch counts anew.
        return found["epoch"], 0, None
    count = len(model.metrics_variables)
    return found["epoch"], found["step"], arrays[len(arrays) - count :]


def take_best(model, folder):
    """Put a model to the best checkpoint; return the epoch, or None without one."""
    path = Path(folder) / FOLDER / BEST
    if not path.is_file():
        return None
    found, arrays = _read(path)
    _assign(_variables(model), arrays, path)
    return found["epoch"]


def _variables(model):
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _all(folder):
    """Return the checkpoints in a folder, the newest first."""
    return sorted(folder.glob("[0-9]*-[0-9]*.npz"), reverse=True)


def _read(path):
    """Return what a checkpoint says and holds; the zip's checksums are compared."""
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        found = json.loads(str(file["about"]))
        return found, [file[str(i)] for i in range(len(file.files) - 1)]


def _same(path, there, asked):
    """Refuse the checkpoint of something else, and show the difference."""
    keys = sorted({*there, *asked})
    changed = [
        f"{k}: {there.get(k)} there, {asked.get(k)} asked for"
        for k in keys
        if there.get(k) != asked.get(k)
    ]
    if changed:
        raise ValueError(
            f"{path} follows another recipe and cannot be resumed by this one. "
            + "; ".join(changed)
        )


def _assign(variables, arrays, path=None):
    shapes = [tuple(v.shape) for v in variables]
    if shapes != [a.shape for a in arrays]:
        raise ValueError(
            f"{path} holds {len(arrays)} arrays that are not those of this model and "
            f"its optimizer, which have {len(variables)}."
        )
    for variable, array in zip(variables, arrays):
        variable.assign(array)
