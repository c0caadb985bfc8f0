"""What comes before Keras starts: its backend, how that computes, what it prints.

Keras is not imported here, so that `import zoo` and `zoo list` cost nothing.
"""

import contextlib
import importlib.util
import os
import platform
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")  # Their packages have the same names.


def installed():
    """Return the backends that are installed, without importing any."""
    return [name for name in BACKENDS if importlib.util.find_spec(name)]


def choose():
    """Let Keras start on an installed backend when its user has named none."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    named = os.environ.get("KERAS_BACKEND") or (home / "keras.json").is_file()
    if not named and "keras" not in sys.modules and installed():
        os.environ["KERAS_BACKEND"] = installed()[0]


def hasten():
    """Let TensorFlow compute by oneDNN on every x86 CPU, unless its user has said.

    By itself it does where a CPU has VNNI or AMX. On one without, a training step of a
    U-Net, a GPT or a DCGAN takes 1.3 to 1.8 times as long by Eigen.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def require_backend():
    """Raise an ImportError that says what to install when there is no backend."""
    if not installed():
        raise ImportError(
            "Keras needs a backend, tensorflow, jax or torch; none is installed. "
            'Install one: pip install "generative-zoo[tensorflow]" (or [jax], [torch]).'
        )


@contextlib.contextmanager
def quietly():
    """Swallow what TensorFlow's C++ prints at its start, if $ZOO_QUIET asks for it.

    It heeds no log level before it has started, so its file descriptor is turned away.
    """
    if not os.environ.get("ZOO_QUIET"):
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
