"""keras-hub, imported when a Transformer is asked for, and without TensorFlow."""

import contextlib
import sys

from zoo._backend import NAME

LARGEST = 1_000_000  # Of each size: keras-hub tries larger ones out in memory.
HIDDEN = "tensorflow", "tensorflow_text"
MOST_LAYERS = 200  # keras-hub makes them one by one, before any has a variable.


def keras_hub():
    """Return the module `keras_hub`.

    It imports TensorFlow where that is installed, for its own tokenizers and metrics,
    which the zoo does not use: on JAX and PyTorch it goes without.

    Raises:
        ImportError: It is not installed.
    """
    with _without_tensorflow():
        try:
            import keras_hub
        except ImportError as error:
            raise ImportError(
                "GPT, BERT and T5 need keras-hub, which is not installed: "
                'pip install "generative-zoo[hub]".'
            ) from error
    return keras_hub


def check_sizes(name, least, window, width, depth, heads, hidden, dropout):
    """Refuse sizes of a Transformer that cannot be; `least` is its smallest window."""
    sizes = window, width, depth, heads, 1 if hidden is None else hidden
    whole = all(type(n) is int and 0 < n <= LARGEST for n in sizes)
    fits = whole and least <= window and depth <= MOST_LAYERS and not width % heads
    if not fits or not 0 <= dropout < 1:
        raise ValueError(
            f"{name} takes a window of {least} or more, a width that the heads divide, "
            f"1 to {MOST_LAYERS} layers, hidden of 1 or more or None, and dropout in "
            f"[0, 1); these are {window!r}, {width!r} and {heads!r}, {depth!r}, "
            f"{hidden!r} and {dropout!r}, of which none may be above {LARGEST:,}."
        )


@contextlib.contextmanager
def _without_tensorflow():
    hidden = [name for name in HIDDEN if name not in sys.modules]
    if NAME == "tensorflow" or "keras_hub" in sys.modules:
        hidden = []
    for name in hidden:
        sys.modules[name] = None  # What makes its import fail.
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
