"""GPT-2's 124 M shape, decoding, and nanoGPT's CPU configuration, training.

Decoding is at batch 1 with random weights in float32: so many symbols after a prompt,
by the zoo's `generate` and by `generate` of transformers' GPT2LMHeadModel with its own
cache, both drawing. LiteRT's int8-dynamic is the zoo's export by `zoo run`'s code,
written first, in a process of its own, since that takes most memory. No
program can be faster than the weights are read from memory once a symbol, which a row
says beside them. That a symbol costs the same after a long text is said by a last row.

Training is 4 layers, 4 heads, width 128, context 64 and batch 12 of 65 characters by
AdamW with clipping. The peer is nanoGPT's model and loop in plain PyTorch, eager and
compiled, without biases, as it has them; keras-hub's layers have biases.
"""

import contextlib
import statistics
import tempfile
from pathlib import Path

from zoo.tools._benchmark import Worker, better, installed, row, serve, take_turns
from zoo.tools._benchmark_vae import timed

TITLE = "GPT-2 of 124 M at batch 1, and nanoGPT's CPU configuration"
MODULE, PEER = "zoo.tools._benchmark_gpt", "transformers"
EXAMPLES = 2_400  # Windows of one epoch of training.
LITERT = "litert int8-dynamic"
NANO = "nanoGPT eager", "nanoGPT compiled"
DECODED = {"symbols": 50_257, "window": 1_024, "width": 768, "depth": 12, "heads": 12}
TRAINED = {"symbols": 65, "window": 64, "width": 128, "depth": 4, "heads": 4}
BATCH, RATE, DECAY, BETAS, NORM = 12, 1e-3, 0.1, (0.9, 0.99), 1.0
PROMPT, WRITTEN = 16, 64
LEAST = {"decode": 1.7, LITERT: 2.0, "train": 1.3}
MOST = 1.25


def measure(setting, shape=None):
    """Return the rows: decoding, the phone's, the memory's, flatness, training.

    Args:
        setting: The `Setting`.
        shape: Changes to the shape that decodes, for tests.
    """
    shape = {**DECODED, **(shape or {})}
    peers = (PEER,) if installed(PEER) and installed("torch") else ()
    phone = (LITERT,) if "tensorflow" in setting.backends else ()
    with contextlib.ExitStack() as stack:
        names = *phone, *peers, *setting.backends
        workers = _start(stack, setting, names, "decode", shape)
        times = take_turns(workers, "decode", setting, "decoding")
        keras = {name: times[name] for name in setting.backends}
        best = min(keras, key=lambda name: statistics.median(keras[name]))
        only = {best: workers[best]}
        growth = take_turns(only, "growth", setting, "long texts")[best]
        first = take_turns(only, "first", setting, "first symbol")[best]
        peer = times.get(PEER)
        what = f"decoding, batch 1, {WRITTEN} after {PROMPT}"
        rows = better(what, "ms/symbol", keras, peer, LEAST["decode"])
        if LITERT in times:
            phone = times[LITERT]
            rows.append(row(what, "ms/symbol", LITERT, phone, peer, LEAST[LITERT]))
        for name in peers:
            bound = take_turns({name: workers[name]}, "bound", setting, "memory")[name]
            what = "reading all float32 weights once"
            rows.append(row(what, "ms/symbol", "memory", bound))
        what = f"a symbol after {longest(shape)}, over one after {PROMPT}"
        rows.append(row(what, "x", best, growth, most=MOST))
        what = f"first symbol after a prompt of {longest(shape)}"
        rows.append(row(what, "ms", best, first))
    names = (*(NANO if installed("torch") else ()), *setting.backends)
    with contextlib.ExitStack() as stack:
        examples = max(BATCH, setting.examples // BATCH * BATCH)
        workers = _start(stack, setting, names, "train", TRAINED, examples=examples)
        speeds = take_turns(workers, "train", setting, "training")
    nano = [speeds[name] for name in NANO if name in speeds]
    fastest = [*map(max, zip(*nano))] if nano else None
    keras = {name: speeds[name] for name in setting.backends}
    return rows + better("training", "symbols/s", keras, fastest, LEAST["train"])


def _start(stack, setting, names, task, shape, **how):
    """Return the workers that can carry out a task, warm.

    PyTorch may not compile, and a machine may have too little memory for an export.
    """
    workers = {}
    for name in names:
        setting.tell(f"warm-up: {task}, {name}")
        backend = {LITERT: "tensorflow"}.get(name, name)
        backend = "torch" if name in (*NANO, PEER) else backend
        role = name if name in (*NANO, PEER, LITERT) else f"zoo {task}"
        worker = Worker(MODULE, role, backend, shape=shape, **how)
        stack.enter_context(worker)
        try:
            worker.ask(task)
            workers[name] = worker
        except OSError as error:
            if name not in (NANO[1], LITERT):
                raise
            setting.tell(f"{name} not run: {str(error).splitlines()[-1]}")
    return workers


def model_of(shape):
    """Return a `zoo.GPT` of a shape; as many characters as it has symbols."""
    import zoo

    sizes = {k: v for k, v in shape.items() if k != "symbols"}
    letters = "".join(map(chr, range(0x10000, 0x10000 + shape["symbols"])))
    return zoo.GPT(letters, **sizes)


def longest(shape):
    """Return the symbols of a prompt after which there is room for the others."""
    return shape["window"] - WRITTEN


def a_symbol(write):
    """Return the milliseconds of each symbol that a call writes, in a list."""
    return [time / WRITTEN for time in timed(write, 1)]


def decoding(shape):
    """Return the commands of the zoo's `generate`."""
    import time

    model = model_of(shape)
    short, long = (model.vocabulary[5] * n for n in (PROMPT, longest(shape)))

    def pieces(prompt, length=WRITTEN):
        """Return seconds to the first symbol, and of each of the rest."""
        start = time.perf_counter()
        pieces = model.stream(seed=0, prompt=prompt, length=length, every=1)
        next(pieces)
        first = time.perf_counter()
        rest = sum(1 for _ in pieces)
        return first - start, (time.perf_counter() - first) / max(1, rest)

    pieces(long, 2)  # Compiles what reads it.
    return {
        "decode": lambda: a_symbol(
            lambda: model.generate(1, seed=0, prompt=short, length=WRITTEN)
        ),
        "growth": lambda: [pieces(long)[1] / pieces(short)[1]],
        "first": lambda: [1e3 * pieces(long, 1)[0]],
    }


def on_phone(shape):
    """Return the command of the zoo's export."""
    from zoo._run import Exported

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "gpt")
        with Worker(MODULE, "export", "tensorflow", shape=shape) as writer:
            writer.ask("export", out=str(out))
        ran = Exported(out, threads=2)
    how = {"seed": 0, "prompt": ran.vocabulary[5] * PROMPT, "length": WRITTEN}
    return {"decode": lambda: a_symbol(lambda: ran.generate(1, **how))}


def exporting(shape):
    """Return the command that writes an export, whose memory ends with it."""

    def export(out):
        how = {"quantize": "int8-dynamic", "verbose": False}
        return model_of(shape).export(out, "litert", **how)

    return {"export": export}


def theirs(shape):
    """Return the commands of transformers' GPT-2, by PyTorch."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape["symbols"],
        n_positions=shape["window"],
        n_embd=shape["width"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
    )
    model = GPT2LMHeadModel(config).eval()
    prompt = torch.full((1, PROMPT), 5)
    how = {"do_sample": True, "top_k": 0, "use_cache": True, "pad_token_id": 0}
    how |= {"min_new_tokens": WRITTEN, "max_new_tokens": WRITTEN}

    @torch.no_grad()
    def write():
        found = model.generate(prompt, attention_mask=prompt * 0 + 1, **how)
        assert found.shape[1] == PROMPT + WRITTEN

    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {
        "decode": lambda: a_symbol(write),
        "bound": lambda: timed(lambda: weights.sum().item(), 3),
    }


def windows(shape, examples):
    import numpy as np

    size = examples, shape["window"]
    return np.random.default_rng(0).integers(0, shape["symbols"], size, "int32")


def training(shape, examples):
    """Return the command of the zoo's `fit`."""
    import time

    import keras

    model, rows = model_of(shape), windows(shape, examples)
    optimizer = keras.optimizers.AdamW(
        RATE,
        weight_decay=DECAY,
        beta_1=BETAS[0],
        beta_2=BETAS[1],
        global_clipnorm=NORM,
    )
    model.compile(optimizer)

    def train():
        start = time.perf_counter()
        model.fit(rows, batch_size=BATCH, verbose=0)
        return [rows.size / (time.perf_counter() - start)]

    return {"train": train}


def nano(shape, examples, compiled=False):
    """Return the command of nanoGPT's model and loop in plain PyTorch."""
    import time

    import torch
    from torch import nn
    from torch.nn import functional

    width, heads = shape["width"], shape["heads"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before = nn.LayerNorm(width, bias=False)
            self.attend = nn.Linear(width, 3 * width, bias=False)
            self.mix = nn.Linear(width, width, bias=False)
            self.after = nn.LayerNorm(width, bias=False)
            self.wide = nn.Linear(width, 4 * width, bias=False)
            self.back = nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            num, steps, _ = x.shape
            parts = self.attend(self.before(x)).split(width, dim=2)
            query, key, value = (
                p.view(num, steps, heads, width // heads).transpose(1, 2) for p in parts
            )
            y = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True
            )
            x = x + self.mix(y.transpose(1, 2).reshape(num, steps, width))
            return x + self.back(functional.gelu(self.wide(self.after(x))))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(shape["symbols"], width)
            self.places = nn.Embedding(shape["window"], width)
            self.blocks = nn.ModuleList(Block() for _ in range(shape["depth"]))
            self.norm = nn.LayerNorm(width, bias=False)
            self.out = nn.Linear(width, shape["symbols"], bias=False)
            self.out.weight = self.table.weight

        def forward(self, symbols, targets):
            places = torch.arange(symbols.shape[1])
            x = self.table(symbols) + self.places(places)
            for block in self.blocks:
                x = block(x)
            logits = self.out(self.norm(x))
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    network = Network()
    run = torch.compile(network) if compiled else network
    rows = torch.from_numpy(windows(shape, examples)).long().flatten()
    decayed = [p for p in network.parameters() if p.dim() > 1]
    plain = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, BETAS, weight_decay=DECAY)
    window = shape["window"]

    def train():
        start = time.perf_counter()
        for _ in range(examples // BATCH):
            begun = torch.randint(len(rows) - window - 1, (BATCH,))
            symbols = torch.stack([rows[i : i + window] for i in begun])
            targets = torch.stack([rows[i + 1 : i + 1 + window] for i in begun])
            loss = run(symbols, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [examples * window / (time.perf_counter() - start)]

    return {"train": train}


if __name__ == "__main__":
    serve(
        {
            "zoo decode": decoding,
            "zoo train": training,
            LITERT: on_phone,
            "export": exporting,
            PEER: theirs,
            NANO[0]: nano,
            NANO[1]: lambda **how: nano(compiled=True, **how),
        }
    )
