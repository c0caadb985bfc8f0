"""keras-hub, imported when a Transformer is asked for, and without TensorFlow."""

import contextlib
import sys

from zoo._backend import NAME

FORMS = "tensorflow", "tensorflow_text"


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


@contextlib.contextmanager
def _without_tensorflow():
    hidden = [name for name in FORMS if name not in sys.modules]
    if NAME == "tensorflow" or "keras_hub" in sys.modules:
        hidden = []
    for name in hidden:
        sys.modules[name] = None  # What makes its import fail.
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
