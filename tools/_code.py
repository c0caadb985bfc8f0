"""How well a model knows documents, beside compressors, and whether its code parses."""

import ast
import gzip
import lzma
import textwrap

import numpy as np

FUNCTIONS = 200
LENGTH = 160  # Symbols that a completion may have.


def compression(model, data, train):
    """Return bits a byte of held-out documents, lower is better: one dict.

    Of the model, which reads each from its start; of gzip and of xz, which compress
    all of them as one file; and of xz that has read the training documents before.
    """
    raw = [text.encode() for text in data.texts]
    bits = -model.score(data.texts, per="byte") * [*map(len, raw)]
    whole = b"\n".join(raw)
    known = "\n".join(train().texts).encode() + b"\n"
    sizes = {
        " of gzip": len(gzip.compress(whole, 9)),
        " of xz": _xz(whole),
        " of xz after training text": _xz(known + whole) - _xz(known),
    }
    found = {"": bits.sum() / sum(map(len, raw))}
    found |= {name: 8 * size / len(whole) for name, size in sizes.items()}
    return {"bits a byte" + name: value for name, value in found.items()}


def _xz(content):
    return len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


def parsed(model, data, num=FUNCTIONS, seed=0, temperature=0.5):
    """Return the share of functions that parse, completed from their beginnings.

    The model is given the signature and docstring of held-out functions and writes a
    body, up to the first line that is indented no further than `def`, or a symbol
    limit: a line that is cut there is left out.
    """
    beginnings = functions(data.texts)
    chosen = np.random.default_rng(seed).permutation(len(beginnings))[:num]
    prompts = [beginnings[i] for i in sorted(chosen)]
    how = {"length": LENGTH, "temperature": temperature}
    texts = model.generate(len(prompts), prompt=prompts, seed=seed, **how)
    bodies = [body(text[len(p) :]) for text, p in zip(texts, prompts)]
    good = [bool(b.strip()) and parses(p + b) for p, b in zip(prompts, bodies)]
    return {"functions that parse": np.mean(good)}


def functions(texts):
    """Return signature and docstring of each function that has one, dedented.

    They end without the end of their last line: with the spaces of the next one that
    is one symbol for a model of byte pairs, and for it to write.
    """
    found = []
    for text in texts:
        try:
            tree, lines = ast.parse(text), text.splitlines(keepends=True)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            told = isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
            if told and len(node.body) > 1 and node.body[0].lineno > node.lineno:
                begun = "".join(lines[node.lineno - 1 : node.body[0].end_lineno])
                begun = textwrap.dedent(begun).rstrip("\n")
                if parses(begun):
                    found.append(begun)
    return found


def body(text):
    """Return the lines of a function's body at the start of a text, whole ones."""
    whole = text[: text.rfind("\n") + 1]  # The last line may be cut.
    kept = []
    for line in whole.splitlines(keepends=True):
        if line.strip() and not line[0].isspace():
            break
        kept.append(line)
    return "".join(kept)


def parses(text):
    """Say whether a text is Python."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def recited(model, data, train, seed=0):
    """Return the share of answers that stand word for word in the training text.

    The model answers the first turn of each held-out conversation.
    """
    known = {line for text in train().texts for line in text.splitlines()}
    asked = [text.splitlines()[0] for text in data.texts]
    answers = [model.chat(turn, seed=seed) for turn in asked]
    return {"answers by heart": np.mean([answer in known for answer in answers])}
