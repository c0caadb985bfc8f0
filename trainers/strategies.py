"""Where a training runs: on one device, on several, on several hosts; one flag.

    none            one device, by any backend
    mirrored        TensorFlow: tf.distribute.MirroredStrategy, one host
    tpu             TensorFlow: TPUStrategy; JAX: data_parallel over the TPU's cores
    data_parallel   JAX: keras.distribution.DataParallel, one host or several
    model_parallel  JAX: keras.distribution.ModelParallel, matrices split over devices
    ddp             torch: one process for each device, gradients averaged

A batch is divided among the replicas; the weights end where one device would end. On a
machine without accelerators, --devices N simulates N on the CPU. Exercised by the tests
on simulated devices and on several processes of one machine; TPUs, GPUs and several
hosts take the same paths, and have not been tried.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time

import keras

BACKENDS = {
    "none": ("tensorflow", "jax", "torch"),
    "mirrored": ("tensorflow",),
    "tpu": ("tensorflow", "jax"),
    "data_parallel": ("jax",),
    "model_parallel": ("jax",),
    "ddp": ("torch",),
}
# Axes of variables that model_parallel splits, by path: the outputs of each layer.
LAYOUT = {
    r".*dense.*/kernel": (None, "model"),
    r".*dense.*/bias": ("model",),
    r".*conv.*/kernel": (None, None, None, "model"),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process trains.

    Attributes:
        scope: Context manager to make and train the model in.
        replicas: Parts that a batch is divided into.
        process, processes: Which of how many processes this is.
    """

    scope: contextlib.AbstractContextManager
    replicas: int = 1
    process: int = 0
    processes: int = 1

    @property
    def chief(self):
        """Whether this process writes the files."""
        return self.process == 0


def workers(strategy, devices, count):
    """Return how many processes this command is to start here; 1 for none.

    Args:
        strategy, devices: As in `enter`.
        count: --workers; None for as many as the strategy wants.
    """
    if _joined() or strategy not in ("ddp", "data_parallel", "model_parallel"):
        if count and count > 1 and not _joined():
            raise ValueError(
                f"--workers is for ddp, data_parallel and model_parallel, not "
                f"{strategy}."
            )
        return 1
    if count:
        return count
    if strategy != "ddp":
        return 1
    import torch

    return devices or torch.cuda.device_count() or 1


def enter(strategy, devices=None, model_devices=None):
    """Prepare the devices of a strategy, before any model is made.

    Args:
        strategy: A key of `BACKENDS`.
        devices: How many of this host's devices; None for all.
        model_devices: For model_parallel: devices that share one copy of the weights;
            None for all. The others, if any, divide the batch.

    Returns:
        The `Place`.

    Raises:
        ValueError: The backend has no such strategy, or the machine no such devices.
    """
    backend = keras.backend.backend()
    if backend not in BACKENDS[strategy]:
        mine = [name for name, backends in BACKENDS.items() if backend in backends]
        raise ValueError(
            f"--strategy {strategy} runs on {' and '.join(BACKENDS[strategy])}; Keras "
            f"is on {backend}, which has {', '.join(mine)}. KERAS_BACKEND chooses."
        )
    if strategy == "none":
        return Place(contextlib.nullcontext())
    if strategy == "mirrored":
        return _mirrored(devices)
    if strategy == "ddp":
        return _ddp()
    if strategy == "tpu" and backend == "tensorflow":
        return _tpu()
    return _sharded(devices, model_devices, strategy == "model_parallel")


def _mirrored(count):
    import tensorflow as tf

    names = [d.name for d in tf.config.list_logical_devices("GPU")] if _gpus() else []
    if not names:
        count = count or 1
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise ValueError(
                f"Divide the CPU before TensorFlow starts: {error}"
            ) from error
        names = [f"CPU:{i}" for i in range(count)]
    strategy = tf.distribute.MirroredStrategy(_first(names, count))
    return Place(strategy.scope(), strategy.num_replicas_in_sync)


def _gpus():
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def _tpu():
    """Return the place of a TPU under TensorFlow; no machine here could run it."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    strategy = tf.distribute.TPUStrategy(resolver)
    return Place(strategy.scope(), strategy.num_replicas_in_sync)


def _sharded(count, model_devices, split):
    """Return the place of JAX devices, of this host or of all that were joined."""
    import jax

    if count and "cuda" not in (os.environ.get("JAX_PLATFORMS") or "cpu"):
        # XLA waits for all devices of an all-reduce at once, each in two threads.
        os.environ.setdefault("NPROC", str(max(os.cpu_count(), 2 * count)))
        with contextlib.suppress(RuntimeError):  # JAX has started: it has what it has.
            jax.config.update("jax_num_cpu_devices", count)
    joined = _joined()
    if joined:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(
            os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"],
            int(os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"]),
            int(os.environ["KERAS_DISTRIBUTION_PROCESS_ID"]),
        )
    names = keras.distribution.list_devices()
    if not joined:
        names = _first(names, count)
    if split:
        within = model_devices or len(names)
        if len(names) % within:
            raise ValueError(
                f"--model_devices divides the {len(names)} devices; {within} does not."
            )
        mesh = keras.distribution.DeviceMesh(
            (len(names) // within, within), ("batch", "model"), names
        )
        distribution = _split_layers()(mesh)
        replicas = len(names) // within
    else:
        mesh = keras.distribution.DeviceMesh((len(names),), ("batch",), names)
        distribution = keras.distribution.DataParallel(
            device_mesh=mesh, auto_shard_dataset=False
        )
        replicas = len(names)
    return Place(
        _distributed(distribution), replicas, jax.process_index(), jax.process_count()
    )


def _split_layers():
    """Return a ModelParallel that splits layers by `LAYOUT` where they divide."""

    class SplitLayers(keras.distribution.ModelParallel):
        def __init__(self, mesh):
            layout = keras.distribution.LayoutMap(mesh)
            for path, axes in LAYOUT.items():
                layout[path] = axes
            super().__init__(
                layout_map=layout, batch_dim_name="batch", auto_shard_dataset=False
            )

        def get_variable_layout(self, variable):
            layout = super().get_variable_layout(variable)
            size = dict(zip(self.device_mesh.axis_names, self.device_mesh.shape))
            axes = list(layout.axes)
            fits = len(axes) == len(variable.shape) and all(
                axis is None or length % size[axis] == 0
                for axis, length in zip(axes, variable.shape)
            )
            if fits:
                return layout
            whole = [None] * len(variable.shape)
            return keras.distribution.TensorLayout(whole, self.device_mesh)

    return SplitLayers


@contextlib.contextmanager
def _distributed(distribution):
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _ddp():
    import torch
    import torch.distributed as dist

    if not _joined():
        return Place(contextlib.nullcontext())
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if gpus else "gloo")
    size = dist.get_world_size()
    return Place(contextlib.nullcontext(), size, dist.get_rank(), size)


def _joined():
    """Say whether this process is one of several: started so here, or by others."""
    names = ("WORLD_SIZE", "KERAS_DISTRIBUTION_NUM_PROCESSES")
    return any(int(os.environ.get(name) or 1) > 1 for name in names)


def _first(names, count):
    if count and count > len(names):
        raise ValueError(
            f"--devices asks for {count}; this machine has {len(names)}: "
            f"{', '.join(names)}."
        )
    return names[:count]


def launch(command, count, strategy):
    """Run a command as several processes of one training; return the exit status.

    The first of them writes. When one dies, the others cannot go on: they are stopped,
    and the message says which it was.

    Args:
        command: List of strings, the same for all.
        count: How many processes.
        strategy: "ddp", or a strategy of JAX.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        if strategy == "ddp":
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
            told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        else:
            told = {"JOB_ADDRESSES": f"127.0.0.1:{port}"}
            told |= {"NUM_PROCESSES": count, "PROCESS_ID": rank}
            told = {f"KERAS_DISTRIBUTION_{k}": v for k, v in told.items()}
        told = {"OMP_NUM_THREADS": max(1, os.cpu_count() // count)} | os.environ | told
        environment = {k: str(v) for k, v in told.items()}
        quiet = {} if rank == 0 else {"stdout": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=environment, **quiet))

    def forward(number, frame):
        started[0].send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    while all(p.poll() is None for p in started):
        time.sleep(0.1)
    if all(p.poll() in (None, 0) for p in started):  # The others end their last step.
        return max((p.wait() for p in started), key=abs)
    time.sleep(0.5)  # One that is killed takes others down: tell of the one.
    ended = [(p.poll(), rank) for rank, p in enumerate(started) if p.poll()]
    rank = min(ended)[1]
    first = started[rank]
    _end(started)
    if rank == 0 and first.returncode in (130, 143):
        return first.returncode
    how = f"with status {first.returncode}"
    if first.returncode < 0:
        how = f"by {signal.Signals(-first.returncode).name}"
    print(
        f"Worker {rank} of {count} ended {how}, so the others were stopped. The same "
        "command with --resume goes on from the last checkpoint.",
        file=sys.stderr,
    )
    return first.returncode if first.returncode > 0 else 128 - first.returncode


def _end(processes):
    """Kill what still runs: the last checkpoint is whole, whatever was under way."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
