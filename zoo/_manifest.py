"""What lies beside an exported model: model.json, and a guide for the app's author."""

import json

import numpy as np

from zoo._export import FILES, FORMATS
from zoo._formats import ExportError, flat
from zoo._noise import philox

SCHEMA = 1
FACTS = (
    *("image_shape", "classes", "speakers", "vocabulary", "symbols"),
    *("voices", "lowest", "highest", "rate", "bands", "frames"),
)  # Attributes of a model that its users need.
NOISE = (
    "Row after row, numpy.random.Generator(numpy.random.Philox(seed).jumped(stream)) "
    ".standard_normal(shape, 'float32') or .random(shape, 'float32'), times scale. Any "
    "generator of that distribution makes good samples; this one makes those that the "
    "seed makes everywhere."
)
MADE = {
    "images": "Pictures, (rows, height, width, channels).",
    "text": "Numbers of characters, in the order of `vocabulary`.",
    "music": "Symbols, `voices` a frame: 0 for none, 1 for the key `lowest`, …",
    "speech": "Frames of log mel energy, and last whether there is a sound: 1 or 0.",
}
OF = {
    "encode": "Codes.",
    "decode": MADE["images"],
    "translate": MADE["images"],
    "translate_back": MADE["images"],
    "score": "log p of each row, in nats.",
    "denoise": "The pictures that the network believes in, in [-1, 1].",
}
GUIDE = "Not run on a device: {} and this file's names are filled in by a program."


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
        "weights_sha256": card.get("files", {})
        .get("model.weights.h5", {})
        .get("sha256"),
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
        "signatures": _signatures(model, how["batches"], report["rows"]),
        "reference": "reference.npz: SIGNATURE.input.NAME and SIGNATURE.output.NAME, "
        "as Keras gives it in float32.",
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", "utf-8")
    (folder / "README.md").write_text(_guide(about), "utf-8")


def _signatures(model, batches, rows):
    """Return each signature's inputs and outputs: shape, dtype, range and meaning."""
    outputs = {row["signature"]: row for row in rows}
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
                if key in draws and name != "step":
                    inputs[key]["draw"] = draws[key]
                if key in ("guidance", "temperature"):
                    inputs[key]["default"] = round(float(example[0]), 4)
                same = np.unique(example)
                if method == "_step" and len(same) == 1 and not key.startswith("noise"):
                    inputs[key]["start"] = same[0].item()
            meaning = OF.get(name, MADE.get(model.medium, ""))
            described[full] = {
                "inputs": inputs,
                "outputs": {
                    key: {**kind, "meaning": _output(name, key, meaning)}
                    for key, kind in outputs[full]["outputs"].items()
                },
                "difference_from_keras": outputs[full]["difference"],
            }
    return described


def _output(signature, key, meaning):
    if signature == "classify":
        return "Probabilities."
    if signature != "step":
        return meaning
    return {
        "logits": "Log-odds of the next symbol.",
        "frame": "The next frame, and last whether there is one.",
    }.get(key, "To be given to the next step.")


def _meaning(model, method, key):
    """Return the range and meaning of an input; no range where it has no ends."""
    if key.startswith("noise"):
        return {"meaning": "What samples are made from, see `noise` above."}
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
        "symbol": (
            [0, last.get("symbols", 0) + 1],
            "The symbol before; at the beginning `start`, which is none of them.",
        ),
        "frame": (None, "The frame before; at the beginning zeros, and last 1."),
    }
    limits, meaning = known.get(key, (None, ""))
    if method == "denoise" and key == "images":
        limits, meaning = None, "Pictures in [-1, 1] times α, plus σ times noise."
    return (
        {"meaning": meaning}
        if limits is None
        else {
            "range": limits,
            "meaning": meaning,
        }
    )


def _draws(model):
    """Return by input how its noise is drawn, found by drawing it."""
    if "generate" not in model.verbs():
        return {}
    found = {}
    for name, array in flat({"noise": model.noise(2, seed=3)}).items():
        for stream in range(4):
            for kind, draw in (
                ("normal", lambda g, shape: g.standard_normal(shape, "float32")),
                ("uniform", lambda g, shape: g.random(shape, "float32")),
            ):
                plain = draw(philox(3, stream), array.shape)
                scale = float(array.ravel()[0] / plain.ravel()[0])
                if np.allclose(array, scale * plain, rtol=1e-5, atol=1e-7):
                    rule = {"distribution": kind, "stream": stream}
                    found[name] = {**rule, "scale": round(scale, 6)}
        if name not in found:
            raise ExportError(
                f"An export says how noise is drawn: normal or uniform, by "
                f"zoo._noise.philox. The {name} of {type(model).__name__} is neither."
            )
    return found


# The guide

KOTLIN = """```kotlin
// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:2.3.0")
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

val model = CompiledModel.create(
    context.assets, "model.tflite", CompiledModel.Options(Accelerator.CPU))
val inputs = mapOf(
{buffers}
)
{fills}
val outputs = mapOf("{output}" to model.createOutputBuffer("{output}", "{signature}"))
model.run(inputs, outputs, "{signature}")
val result = outputs.getValue("{output}").{read}()  // {size} numbers, {shape}
```"""
SWIFT = """```swift
// Podfile: pod 'TensorFlowLiteSwift'
import TensorFlowLite

let interpreter = try Interpreter(modelPath: Bundle.main.path(
    forResource: "model", ofType: "tflite")!)
let runner = try interpreter.signatureRunner(with: "{signature}")
{values}
try runner.invoke(with: [
{inputs}
])
let bytes = try runner.output(named: "{output}").data  // {size} × {dtype}, {shape}
let result = bytes.withUnsafeBytes {{ Array($0.bindMemory(to: {type}.self)) }}
```"""


def _guide(about):
    """Return the README.md of an export."""
    name = about["preset"] or about["model"]
    signature = next(iter(about["signatures"]))
    parts = [f"# {name}, exported to {about['format']}", about["summary"] or ""]
    parts += [
        "| signature | input | shape | range | meaning |\n|---|---|---|---|---|\n"
        + "\n".join(
            f"| {s} | `{key}` {spec['dtype']} | {spec['shape']} | "
            f"{spec.get('range', '')} | {spec['meaning']} |"
            for s, parts in about["signatures"].items()
            for key, spec in parts["inputs"].items()
        ),
        "| signature | output | shape | meaning |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {s} | `{key}` {spec['dtype']} | {spec['shape']} | {spec['meaning']} |"
            for s, parts in about["signatures"].items()
            for key, spec in parts["outputs"].items()
        ),
        "The whole sampler is inside: noise comes in and finished samples go out. "
        f"How noise is drawn: {about['noise']}",
        "`reference.npz` has inputs and what Keras makes of them, to check a port "
        "against; `model.json` says all of this to a program.",
    ]
    if about["format"] == "litert":
        parts += [
            "## On this machine\n\n```bash\nzoo run .\n```\n\nneeds NumPy and "
            "ai-edge-litert alone.",
            "## Android, in Kotlin\n\n" + GUIDE.format("the snippet"),
            _kotlin(about, signature),
            "## iOS, in Swift\n\n" + GUIDE.format("the snippet"),
            _swift(about, signature),
        ]
    else:
        parts.append(
            "## TensorFlow Serving\n\n```bash\ntensorflow_model_server --rest_api_port="
            f"8501 --model_name={name} --model_base_path=$PWD\n```\n\nIts folder `1` "
            "is the SavedModel; signatures that end in a number take so many rows."
        )
    if about["limits"]:
        parts.append(f"## What it is not for\n\n{about['limits']}")
    if about["licence"]:
        data = about["data"] or {}
        parts.append(
            f"## Licence\n\nWeights: {about['licence']}. Trained on "
            f"{data.get('name', 'data')}, {data.get('licence', '')}."
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def _kotlin(about, signature):
    parts = about["signatures"][signature]
    fills = []
    for key, spec in parts["inputs"].items():
        size, whole = int(np.prod(spec["shape"])), spec["dtype"].startswith("int")
        draw = spec.get("draw", {})
        value = {
            "normal": "java.util.Random().let { r -> FloatArray(SIZE) { "
            "SCALEr.nextGaussian().toFloat() } }",
            "uniform": "FloatArray(SIZE) { kotlin.random.Random.nextFloat() }",
        }.get(draw.get("distribution"))
        scale = draw.get("scale", 1.0)
        start = spec.get("default", spec.get("range", [0])[0] or 0)
        value = value or (
            f"IntArray(SIZE) {{ {int(start)} }}"
            if whole
            else f"FloatArray(SIZE) {{ {float(start)}f }}"
        )
        value = value.replace("SIZE", str(size))
        value = value.replace("SCALE", "" if scale == 1 else f"{scale}f * ")
        write = "writeInt" if whole else "writeFloat"
        fills.append(f'inputs.getValue("{key}").{write}({value})')
    output, spec = next(iter(parts["outputs"].items()))
    return KOTLIN.format(
        buffers="\n".join(
            f'    "{key}" to model.createInputBuffer("{key}", "{signature}"),'
            for key in parts["inputs"]
        ),
        fills="\n".join(fills),
        signature=signature,
        output=output,
        read="readInt" if spec["dtype"].startswith("int") else "readFloat",
        size=int(np.prod(spec["shape"])),
        shape=spec["shape"],
    )


def _swift(about, signature):
    parts = about["signatures"][signature]
    values, inputs = [], []
    for key, spec in parts["inputs"].items():
        size, whole = int(np.prod(spec["shape"])), spec["dtype"].startswith("int")
        kind = "Int32" if whole else "Float32"
        draw = spec.get("draw", {}).get("distribution")
        start = spec.get("default", spec.get("range", [0])[0] or 0)
        if draw == "uniform":
            made = f"(0..<{size}).map {{ _ in {kind}.random(in: 0..<1) }}"
        elif draw == "normal":  # Box and Muller's, of two uniform numbers.
            made = (
                f"(0..<{size}).map {{ _ in sqrt(-2 * log(1 - {kind}.random(in: 0..<1)))"
                f" * cos(2 * .pi * {kind}.random(in: 0..<1)) }}"
            )
            scale = spec["draw"]["scale"]
            made += "" if scale == 1 else f".map {{ {scale} * $0 }}"
        else:
            made = f"Array(repeating: {start}, count: {size})"
        values.append(f"let {key}: [{kind}] = {made}")
        inputs.append(
            f'    "{key}": {key}.withUnsafeBufferPointer {{ Data(buffer: $0) }},'
        )
    output, spec = next(iter(parts["outputs"].items()))
    return SWIFT.format(
        signature=signature,
        values="\n".join(values),
        inputs="\n".join(inputs),
        output=output,
        size=int(np.prod(spec["shape"])),
        shape=spec["shape"],
        dtype=spec["dtype"],
        type="Int32" if spec["dtype"].startswith("int") else "Float32",
    )
