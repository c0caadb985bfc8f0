"""What is hidden in a text: how often a model finds it, and how often counting does."""

import numpy as np

SHARE = 0.15  # Of the symbols of a window, as in BERT's training.
TRUST = 10  # Pairs seen after which their own counts weigh as much as those of one.


def masked(model, data, train, seed=0):
    """Return the share of hidden symbols that are found, by a model and by counting.

    Of each window 15 % are hidden. `of unigram` answers what is most frequent;
    `of bigram` what is likeliest by how often symbols follow each other, given the
    neighbours on both sides that are not hidden.

    Args:
        model: With `recover`.
        data: `Windows` of the test text.
        train: Function that opens those of the training text.
        seed: Draws what is hidden.
    """
    rows = np.asarray(data[np.arange(len(data))], "int64")
    count = max(1, round(SHARE * rows.shape[1]))
    order = np.random.default_rng(seed).random(rows.shape).argsort(axis=1)
    hidden = order < count
    text = np.asarray(train().symbols, "int64")
    often = np.bincount(text, minlength=model.symbols)
    found = {
        "": model.recover(rows, hidden)[hidden],
        " of unigram": often.argmax(),
        " of bigram": by_neighbours(rows, hidden, text, often / len(text)),
    }
    return {f"masked accuracy{k}": (v == rows[hidden]).mean() for k, v in found.items()}


def by_neighbours(rows, hidden, text, odds):
    """Return the likeliest symbols of hidden places, by counted pairs.

    p(x | a, b) goes with p(x | a) p(b | x): the most that a chain of pairs can say.
    Pairs are counted and mixed with `odds`, the shares of single symbols.
    """
    pairs = np.zeros((len(odds), len(odds)), "float32")
    np.add.at(pairs, (text[:-1], text[1:]), 1)
    pairs += TRUST * odds.astype("float32")
    pairs = np.log(np.maximum(pairs / pairs.sum(axis=1, keepdims=True), 1e-12))
    single = np.log(np.maximum(odds, 1e-12))
    shown = np.pad(np.where(hidden, -1, rows), ((0, 0), (1, 1)), constant_values=-1)
    answers = []
    for row, place in zip(*np.nonzero(hidden)):
        left, right = shown[row, place], shown[row, place + 2]
        fits = pairs[left] if left >= 0 else single
        answers.append((fits + pairs[:, right] if right >= 0 else fits).argmax())
    return np.array(answers)
