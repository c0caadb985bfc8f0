"""The README.md of an export: what goes in and out, and how an app calls it."""

import math

NOT_RUN = "Filled in by a program for this very model; not run on a device."
KOTLIN = """```kotlin
// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:2.3.0")
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

val random = java.util.Random()
val model = CompiledModel.create(
    context.assets, "model.tflite", CompiledModel.Options(Accelerator.CPU))
val inputs = listOf({names}).associateWith {{
    model.createInputBuffer(it, "{signature}")
}}
{fills}
val outputs = mapOf("{output}" to model.createOutputBuffer("{output}", "{signature}"))
model.run(inputs, outputs, "{signature}")
val result = outputs.getValue("{output}").read{kind}()  // {size} numbers, {shape}
```"""
SWIFT = """```swift
// Podfile: pod 'TensorFlowLiteSwift'
import TensorFlowLite

let interpreter = try Interpreter(modelPath: Bundle.main.path(
    forResource: "model", ofType: "tflite")!)
let runner = try interpreter.signatureRunner(with: "{signature}")
{fills}
try runner.invoke(with: [
{inputs}
])
let bytes = try runner.output(named: "{output}").data  // {size} numbers, {shape}
let result = bytes.withUnsafeBytes {{ Array($0.bindMemory(to: {kind}32.self)) }}
```"""
# One number of an input, by how it is drawn.
IN_KOTLIN = {
    "normal": "random.nextGaussian().toFloat()",
    "uniform": "random.nextFloat()",
}
IN_SWIFT = {
    # Of two uniform numbers: Box & Muller, 1958.
    "normal": "sqrt(-2 * log(1 - Float.random(in: 0..<1)))"
    " * cos(2 * .pi * Float.random(in: 0..<1))",
    "uniform": "Float.random(in: 0..<1)",
}


def guide(about):
    """Return the text of a guide.

    Args:
        about: What model.json says.
    """
    name, signature = about["preset"] or about["model"], next(iter(about["signatures"]))
    parts = [
        f"# {name}, exported to {about['format']}",
        about["summary"],
        _table(about, "inputs"),
        _table(about, "outputs"),
        "Noise comes in and finished samples go out: the whole sampler is inside. It "
        f"is drawn by {about['noise']}",
        "`reference.npz` has inputs and what Keras makes of them, to check a port "
        "against; `model.json` says all of this to a program.",
    ]
    if about["format"] == "litert":
        parts += [
            "## On this machine",
            "```bash\nzoo run .\n```\n\nby NumPy and ai-edge-litert alone.",
            f"## Android, in Kotlin\n\n{NOT_RUN}",
            _snippet(about, signature, KOTLIN, _kotlin),
            f"## iOS, in Swift\n\n{NOT_RUN}",
            _snippet(about, signature, SWIFT, _swift),
        ]
    else:
        parts += [
            "## TensorFlow Serving",
            "```bash\ntensorflow_model_server --rest_api_port=8501 "
            f"--model_name={name} --model_base_path=$PWD\n```",
            "Its folder `1` is the SavedModel; signatures that end in a number take so "
            "many rows.",
        ]
    if about["limits"]:
        parts += ["## What it is not for", about["limits"]]
    if about["licence"]:
        data = about["data"] or {}
        parts += [
            "## Licence",
            f"Weights: {about['licence']}. Trained on {data.get('name', 'data')}, "
            f"{data.get('licence', 'of its own licence')}.",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(about, which):
    """Return what goes in, or comes out, as a table of Markdown."""
    lines = [
        f"| signature | {which} | shape | range | meaning |",
        "|---|---|---|---|---|",
    ]
    for signature, parts in about["signatures"].items():
        for key, spec in parts[which].items():
            cells = signature, f"`{key}` {spec['dtype']}", spec["shape"]
            cells += spec.get("range", ""), spec["meaning"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _snippet(about, signature, template, fill):
    """Return a program that calls a signature; `fill` writes the line of an input."""
    parts = about["signatures"][signature]
    output, made = next(iter(parts["outputs"].items()))
    return template.format(
        signature=signature,
        names=", ".join(f'"{key}"' for key in parts["inputs"]),
        inputs="\n".join(
            f'    "{key}": {key}.withUnsafeBufferPointer {{ Data(buffer: $0) }},'
            for key in parts["inputs"]
        ),
        fills="\n".join(fill(key, spec) for key, spec in parts["inputs"].items()),
        output=output,
        kind=_kind(made),
        size=math.prod(made["shape"]),
        shape=made["shape"],
    )


def _kind(spec):
    return "Int" if spec["dtype"].startswith("int") else "Float"


def _value(spec, drawn):
    """Return one number of an input as a program writes it, and how many there are."""
    plain = spec.get("default", spec.get("range", [0])[0] or 0)
    value = drawn.get(spec.get("draw", {}).get("distribution"), str(plain))
    return value, math.prod(spec["shape"])


def _kotlin(key, spec):
    (value, size), kind = _value(spec, IN_KOTLIN), _kind(spec)
    if kind == "Float" and "random" not in value:
        value = f"{float(value)}f"
    return f'inputs.getValue("{key}").write{kind}({kind}Array({size}) {{ {value} }})'


def _swift(key, spec):
    value, size = _value(spec, IN_SWIFT)
    return f"let {key}: [{_kind(spec)}32] = (0..<{size}).map {{ _ in {value} }}"
