"""The character LSTM of lstm-shakespeare, batch 32 × 128, here and in plain PyTorch.

Both are one layer of 512 on 65 characters with Adam at 1e-3; PyTorch's is nn.LSTM on
characters as ones and zeros, so that it has the same weights, but for a second bias.
Sampling is 1,000 characters one after another at batch 1: there a loop over nn.LSTM and
multinomial, as a textbook has it, without gradients; here `generate`. PyTorch runs
on all cores and on one thread, which is faster for small steps or on a busy machine.
"""

import contextlib
import statistics

from zoo.tools._benchmark import Worker, better, installed, row, serve, take_turns
from zoo.tools._benchmark_vae import timed

TITLE = "Character LSTM of 512, batch 32 x 128, beside PyTorch's nn.LSTM"
PEER = "torch"
PLAIN = {"nn.LSTM": None, "nn.LSTM, 1 thread": 1}  # The better one is the peer.
SYMBOLS, UNITS, BATCH, LENGTH, RATE = 65, 512, 32, 128, 1e-3
EXAMPLES = 128  # Windows of one epoch, and of one turn.
WRITTEN = 1_000
LENGTHS = 100, 10_000  # Between which the cost of a character is flat.
LEAST = {"train": 1.0, "generate": 3.0}  # Times as fast, the best backend.
MOST = 1.25  # Times the cost of a character, for the longest.


def measure(setting):
    """Return the rows: training, sampling, and the cost of a character by length."""
    with contextlib.ExitStack() as stack:
        workers = {}
        examples = max(BATCH, setting.examples // BATCH * BATCH)
        for name in (*(PLAIN if installed(PEER) else ()), *setting.backends):
            setting.tell(f"warm-up: {name}")
            role, backend = (PEER, "torch") if name in PLAIN else ("zoo", name)
            how = {"examples": examples}
            how |= {"threads": PLAIN[name]} if name in PLAIN else {}
            worker = Worker("zoo.tools._benchmark_rnn", role, backend, **how)
            workers[name] = stack.enter_context(worker)
            worker.ask("train", epochs=1)
            worker.ask("generate", repeats=1)
        speeds = take_turns(workers, "train", setting, "training", epochs=1)
        times = take_turns(workers, "generate", setting, "sampling", repeats=3)
        best = min(setting.backends, key=lambda name: statistics.median(times[name]))
        only = {best: workers[best]}
        workers[best].ask("lengths", repeats=1)
        growth = take_turns(only, "lengths", setting, "lengths", repeats=3)[best]
    rows = compare("training", "characters/s", speeds, setting, LEAST["train"])
    what = f"generate, {WRITTEN:,} characters at batch 1"
    rows += compare(what, "ms", times, setting, LEAST["generate"])
    what = f"cost of a character, of {LENGTHS[1]:,} over of {LENGTHS[0]}"
    return [*rows, row(what, "x", best, growth, most=MOST)]


def compare(what, unit, measured, setting, least):
    """Return the rows beside whichever of PyTorch's two was faster in a round."""
    choose = max if unit.endswith("/s") else min
    turns = zip(*(measured[name] for name in PLAIN.keys() & measured.keys()))
    ours = {name: measured[name] for name in setting.backends}
    return better(what, unit, ours, [*map(choose, turns)], least)


def windows(examples):
    """Return windows of numbers of characters, (examples, LENGTH)."""
    import numpy as np

    return np.random.default_rng(0).integers(0, SYMBOLS, (examples, LENGTH), "int32")


def ours(examples):
    """Return the commands of the zoo, on the backend of the environment."""
    import time

    import keras

    import zoo

    letters = "".join(map(chr, range(48, 48 + SYMBOLS)))
    model, rows = zoo.CharRNN(letters, hidden=[UNITS]), windows(examples)
    model.compile(keras.optimizers.Adam(RATE))

    def train(epochs):
        start = time.perf_counter()
        model.fit(rows, epochs=epochs, batch_size=BATCH, verbose=0)
        return [epochs * examples * LENGTH / (time.perf_counter() - start)]

    def each(length, repeats):
        """Return the seconds of a character."""
        times = timed(lambda: model.generate(1, seed=0, length=length), repeats)
        return statistics.median(times) / length

    return {
        "train": train,
        "generate": lambda repeats: timed(
            lambda: model.generate(1, seed=0, length=WRITTEN), repeats
        ),
        "lengths": lambda repeats: [
            each(LENGTHS[1], 1) / each(LENGTHS[0], 10 * repeats)
        ],
    }


def theirs(examples, threads):
    """Return the commands of plain PyTorch, on all cores or so many threads."""
    import time

    import torch
    from torch import nn
    from torch.nn import functional

    if threads:
        torch.set_num_threads(threads)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(SYMBOLS + 1, UNITS, batch_first=True)
            self.out = nn.Linear(UNITS, SYMBOLS)

        def forward(self, letters, state=None):
            x = functional.one_hot(letters, SYMBOLS + 1).float()
            hidden, state = self.cell(x, state)
            return self.out(hidden), state

    network, rows = Network(), torch.from_numpy(windows(examples)).long()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    first = torch.full((BATCH, 1), SYMBOLS)

    def train(epochs):
        start = time.perf_counter()
        for _ in range(epochs):
            for batch in rows[torch.randperm(len(rows))].split(BATCH):
                logits, _ = network(torch.cat([first, batch[:, :-1]], dim=1))
                loss = functional.cross_entropy(logits.flatten(0, 1), batch.flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return [epochs * examples * LENGTH / (time.perf_counter() - start)]

    @torch.no_grad()
    def write():
        letter, state, written = first[:1], None, []
        for _ in range(WRITTEN):
            logits, state = network(letter, state)
            letter = torch.multinomial(logits[:, -1].softmax(-1), 1)
            written.append(letter.item())
        return written

    return {"train": train, "generate": lambda repeats: timed(write, repeats)}


if __name__ == "__main__":
    serve({"zoo": ours, PEER: theirs})
