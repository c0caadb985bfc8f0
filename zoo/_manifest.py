"""What lies beside an exported model: model.json, which describes it to a program."""

import json

import numpy as np

from zoo._card import weights_of
from zoo._export import FILES, FORMATS
from zoo._formats import ExportError, flat
from zoo._guide import guide
from zoo._noise import philox

SCHEMA = 1
FACTS = (
    *("image_shape", "classes", "speakers", "vocabulary", "merges", "symbols"),
    *("window", "pieces", "lower", "end", "sentencepiece"),
    *("voices", "lowest", "highest", "rate", "bands", "frames"),
)  # Attributes of a model that its users need.
NOISE = (
    "numpy.random.Generator(numpy.random.Philox(seed).jumped(stream)), of which "
    ".standard_normal(shape, 'float32') is normal and .random(shape, 'float32') "
    "uniform. Any generator of that distribution makes good samples; this one makes "
    "those that the seed makes everywhere."
)
MADE = {
    "images": "Pictures, (rows, height, width, channels).",
    "text": "Numbers of characters, in the order of `vocabulary`, or of what `merges` "
    "make of bytes, as in GPT-2.",
    "music": "Symbols, `voices` a frame: 0 for none, 1 for the key `lowest`, …",
    "speech": "Frames of log mel energy, and last whether there is a sound: 1 or 0.",
}
OF = {
    "encode": "Codes.",
    "decode": MADE["images"],
    "translate": MADE["images"],
    "translate_back": MADE["images"],
    "score": "log p of each row, in nats.",
    "fill": "The probability of each piece at each place.",
    "embed": "Numbers that stand for a whole text.",
    "denoise": "The pictures that the network believes in, in [-1, 1].",
}


def describe(model, folder, how, report):
    """Write model.json and README.md beside an export.

    Args:
        model: What was exported.
        folder: Where the files go.
        how: "format", "batches" and "quantize".
        report: As `zoo._export` measured it.
    """
    card = model.card
    file = folder / FILES[how["format"]]
    about = {
        "schema": SCHEMA,
        "preset": card.get("name"),
        "model": type(model).__name__,
        "medium": model.medium,
        "parameters": model.count_params(),
        "summary": card.get("summary"),
        "limits": card.get("limits"),
        "licence": card.get("licence"),
        "data": card.get("data"),
        "weights_sha256": (weights_of(card) or {}).get("sha256") if card else None,
        "format": how["format"],
        "runs_with": FORMATS[how["format"]],
        "file": file.name,
        "sha256": report.get("sha256"),
        "quantize": how["quantize"],
        "batch": how["batches"][0],
        "operators": report.get("operators"),
        "float32": report.get("float32"),
        "facts": {
            name: getattr(model, name)
            for name in FACTS
            if isinstance(getattr(model, name, None), int | str | tuple)
        },
        "noise": NOISE,
        "signatures": _signatures(model, how["batches"], report),
        "reference": "reference.npz: SIGNATURE.input.NAME and SIGNATURE.output.NAME, "
        "as Keras gives it in float32.",
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", "utf-8")
    (folder / "README.md").write_text(guide(about), "utf-8")


def _signatures(model, batches, report):
    """Return each signature's inputs and outputs: shape, dtype, range and meaning.

    And of an input whether its output may be written over it, in the same memory.
    """
    outputs = {row["signature"]: row for row in report["rows"]}
    heard = outputs.get("encode", {}).get("outputs", ())  # Of a source, by T5.
    draws, described = _draws(model), {}
    for name, (method, arguments) in model.signatures().items():
        for batch in batches:
            full = name if batch == batches[0] else f"{name}_{batch}"
            inputs = {}
            for key, example in flat(arguments).items():
                inputs[key] = {
                    "shape": [batch, *example.shape[1:]],
                    "dtype": str(example.dtype),
                    **_meaning(model, method, key),
                }
                if key in draws:
                    rule = draws[key]
                    inputs[key]["meaning"] = (
                        f"Noise, {rule['distribution']}; stream {rule['stream']}."
                    )
                if key in draws and name != "step":
                    inputs[key]["draw"] = draws[key]
                if key in ("guidance", "temperature"):
                    inputs[key]["default"] = round(float(example[0]), 4)
                same = np.unique(example)
                if key.removeprefix("state_") in heard:
                    inputs[key]["meaning"] = "What `encode` returned."
                elif (
                    method in ("_step", "_prefill")
                    and not key.startswith("noise")
                    and len(same) == 1
                ):
                    inputs[key]["start"] = same[0].item()
                if key in report.get("in_place", {}).get(full, ()):
                    inputs[key]["in_place"] = True
                    inputs[key]["meaning"] += " The output may share its memory."
            meaning = OF.get(name, MADE.get(model.medium, ""))
            part = "step" if model.medium == "translation" else name
            described[full] = {
                "inputs": inputs,
                "outputs": {
                    key: {**kind, "meaning": _output(part, key, meaning)}
                    for key, kind in outputs[full]["outputs"].items()
                },
                "difference_from_keras": outputs[full]["difference"],
            }
    return described


def _output(signature, key, meaning):
    if signature == "classify":
        return "Probabilities."
    if signature != "step" and not key.startswith("state"):
        return meaning
    return {
        "logits": "Log-odds of the next symbol.",
        "frame": "The next frame, and last whether there is one.",
    }.get(key, "To be given to the next step.")


def _meaning(model, method, key):
    """Return the range and meaning of an input; no range where it has no ends."""
    if key.startswith("noise"):
        return {"meaning": "Noise."}
    if key.startswith("state"):
        return {"meaning": "What the last step returned; at the beginning `start`."}
    last = {  # The largest of whole numbers that are counted by an attribute.
        name: count - 1
        for name in ("classes", "speakers", "symbols")
        if isinstance(count := getattr(model, name, None), int)
    }
    known = {
        "labels": ([0, last.get("classes")], "Which kind each row is to be."),
        "speakers": ([0, last.get("speakers")], "Who says each row."),
        "guidance": (
            [0, 100],
            "How much labels count: 1 as learned, more exaggerates.",
        ),
        "images": ([0, 1], "Pictures."),
        "sounds": ([-1, 1], "Waves, `rate` samples a second."),
        "times": ([0, 1], "How far towards noise a picture is, above 0."),
        "codes": (
            None,
            "Codes, as `encode` returns them; standard normal for samples.",
        ),
        "given": (
            [-1, last.get("symbols")],
            "Symbols that are so, such as those of a prompt; -1 for one to be drawn.",
        ),
        "temperature": ([0, None], "1 as learned, less is plainer, 0 the likeliest."),
        "symbols": ([0, last.get("symbols")], "Those that follow."),
        "symbol": (
            [0, last.get("symbols", 0) + 1],
            "The symbol before; at the beginning `start`, which is none of them.",
        ),
        "row": (
            [0, last.get("symbols")],
            "Pieces by their line in `pieces`, between [CLS] and [SEP]; then [PAD].",
        ),
        "frame": (None, "The frame before; at the beginning zeros."),
        "source": (
            [-1, last.get("symbols")],
            "Symbols of a text, `end`, and -1 for the rest.",
        ),
    }
    limits, meaning = known.get(key, (None, ""))
    if method == "denoise" and key == "images":
        limits, meaning = None, "Pictures in [-1, 1] times α, plus σ times noise."
    return {**({"range": limits} if limits else {}), "meaning": meaning}


def _draws(model):
    """Return by input how its noise is drawn, found by drawing it."""
    if "generate" not in model.verbs():
        return {}
    found = {}
    for name, array in flat({"noise": model.noise(2, seed=3)}).items():
        for stream in range(4):
            drawn = {
                "normal": philox(3, stream).standard_normal(array.shape, "float32"),
                "uniform": philox(3, stream).random(array.shape, "float32"),
            }
            for kind, plain in drawn.items():
                if np.array_equal(array, plain):
                    found[name] = {"distribution": kind, "stream": stream}
        if name not in found:
            raise ExportError(
                f"An export says how noise is drawn: normal or uniform, by "
                f"zoo._noise.philox. The {name} of {type(model).__name__} is neither."
            )
    return found
