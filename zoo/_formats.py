"""The two formats of an export: SavedModel and LiteRT, written and run.

Each writer takes functions by signature, writes them, and returns what runs them.
"""

import os
import re
import warnings

import keras

QUANTIZE = ("float16", "int8-dynamic", "int8")


class ExportError(ValueError):
    """A model that the format cannot hold, or a copy that differs from Keras."""


def by_name(arguments, function, prefix=""):
    """Replace each array in nested dicts by function(name, array).

    The name joins the keys: {"noise": {"normal": x}} gives "noise_normal".
    """
    return {
        key: by_name(value, function, f"{prefix}{key}_")
        if isinstance(value, dict)
        else function(prefix + key, value)
        for key, value in arguments.items()
    }


def flat(arguments):
    """Return nested dicts as one, by the names of `by_name`."""
    found = {}
    by_name(arguments, found.__setitem__)
    return found


def named(output):
    """Return what a method returns as a dict of named tensors or arrays."""
    if isinstance(output, list | tuple):
        output = {f"output_{i}": part for i, part in enumerate(output)}
    return flat(output if isinstance(output, dict) else {"output": output})


def traced(model, signature, batch, frozen):
    """Return a signature as a TensorFlow function of named tensors of `batch` rows.

    `frozen` makes the weights constants of it, for LiteRT: a variable that the
    converter does not freeze itself breaks the file at READ_VARIABLE.
    """
    import tensorflow as tf

    method, arguments = signature
    weights = [(v, v.numpy()) for v in model.variables] if frozen else []

    def function(**tensors):
        constants = [(v, tf.constant(value)) for v, value in weights]
        nested = by_name(arguments, lambda name, _: tensors[name])
        with keras.StatelessScope(constants):
            return named(getattr(model, method)(*nested.values()))

    specs = {
        name: tf.TensorSpec((batch, *array.shape[1:]), array.dtype, name)
        for name, array in flat(arguments).items()
    }
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def write_saved_model(functions, target):
    """Write a SavedModel of traced functions; return what runs a signature of it."""
    import tensorflow as tf

    module = tf.Module()
    variables = [v for function in functions.values() for v in function.variables]
    module.weights = list({id(v): v for v in variables}.values())
    tf.saved_model.save(module, str(target), signatures=functions)
    with tf.device("CPU"):
        loaded = tf.saved_model.load(str(target))

    def run(name, arrays):
        with tf.device("CPU"):
            tensors = {key: tf.constant(array) for key, array in arrays.items()}
            output = loaded.signatures[name](**tensors)
        return {key: tensor.numpy() for key, tensor in output.items()}

    return run


def write_litert(functions, target, quantize=None, examples=None):
    """Write a LiteRT file; return what runs a signature of it.

    Args:
        functions: Traced and frozen, by signature.
        target: File to write.
        quantize: None, or one of `QUANTIZE`.
        examples: Of "int8": a list of (signature, dict of arrays of one call).
    """
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    loops = [name for name, function in functions.items() if _loops(function)]
    if quantize == "int8" and loops:
        raise ExportError(
            f"int8 measures the scales of activations, which LiteRT cannot do within "
            f"the loop of {', '.join(loops)}: ask for int8-dynamic."
        )
    folder = target.parent.with_name("frozen")
    write_saved_model(functions, folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=list(functions)
    )
    built_in = tf.lite.OpsSet.TFLITE_BUILTINS
    converter.target_spec.supported_ops = [built_in]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        # What has no int8 form stays float32.
        int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [int8, built_in]
        converter.representative_dataset = lambda: iter(examples)
    try:
        with warnings.catch_warnings():  # Of tf.lite.Interpreter, its own.
            warnings.simplefilter("ignore", UserWarning)
            content = converter.convert()
    except Exception as error:  # ConverterError, which TensorFlow does not publish.
        raise ExportError(_refusal(str(error), quantize)) from error
    target.write_bytes(content)
    threads = min(4, os.cpu_count() or 1)  # As many as a phone has fast cores.
    interpreter = Interpreter(model_content=content, num_threads=threads)
    runners = {name: interpreter.get_signature_runner(name) for name in functions}
    return lambda name, arrays: runners[name](**arrays)


def _loops(function):
    kinds = {operation.type for operation in function.graph.get_operations()}
    return not kinds.isdisjoint(("While", "StatelessWhile"))


def _refusal(text, quantize):
    """Say in one sentence why the converter refused."""
    found = re.findall(
        r"""loc\(callsite\(fused\["\w+:", "([^"@]+)@[^\n]*'tf\.(\w+)' op is neither""",
        text,
    )
    if not found:
        how = f" as {quantize}" if quantize else ""
        return f"LiteRT cannot hold this model{how}: {text.strip()[:500]}"
    places = {}
    for path, name in found:
        places.setdefault(name, set()).add(path.rpartition("/")[0] or "no layer")
    needed = ", ".join(
        f"{name} (in {', '.join(sorted(paths))})"
        for name, paths in sorted(places.items())
    )
    return (
        "A litert export uses operators built into LiteRT alone; this model needs "
        f"{needed}. Rewrite what makes them, or export to saved_model."
    )


def operators(content):
    """Return how often a LiteRT file has each operator, the most frequent first."""
    from ai_edge_litert import schema_py_generated as schema

    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }
    file, counts = schema.Model.GetRootAs(content), {}
    for i in range(file.SubgraphsLength()):
        graph = file.Subgraphs(i)
        for k in range(graph.OperatorsLength()):
            code = file.OperatorCodes(graph.Operators(k).OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def in_place(content):
    """Return the inputs of each signature that their outputs may be written over.

    Such as a cache of attention: it is read by one DYNAMIC_UPDATE_SLICE alone, which
    makes the output of the same name and, in one memory, writes the new part only.

    Args:
        content: A LiteRT file.

    Returns:
        dict: signature to a list of names.
    """
    from ai_edge_litert import schema_py_generated as schema

    update = schema.BuiltinOperator.DYNAMIC_UPDATE_SLICE
    file, found = schema.Model.GetRootAs(content), {}
    for i in range(file.SignatureDefsLength()):
        signature = file.SignatureDefs(i)
        graph = file.Subgraphs(signature.SubgraphIndex())
        readers, updates = {}, {}
        for k in range(graph.OperatorsLength()):
            node = graph.Operators(k)
            for tensor in node.InputsAsNumpy():
                readers[tensor] = readers.get(tensor, 0) + 1
            if file.OperatorCodes(node.OpcodeIndex()).BuiltinCode() == update:
                updates[node.Inputs(0)] = node.Outputs(0)
        made = dict(_tensors(signature.Outputs, signature.OutputsLength()))
        found[signature.SignatureKey().decode()] = [
            name
            for name, tensor in _tensors(signature.Inputs, signature.InputsLength())
            if readers.get(tensor) == 1 and updates.get(tensor, -1) == made.get(name)
        ]
    return found


def _tensors(part, num):
    return ((part(i).Name().decode(), part(i).TensorIndex()) for i in range(num))


def still_float(content):
    """Return the names of the float32 matrices and kernels of a file.

    In a quantized file, these are the weights that stayed as they were.
    """
    from ai_edge_litert import schema_py_generated as schema

    file, found = schema.Model.GetRootAs(content), {}
    for i in range(file.SubgraphsLength()):
        graph = file.Subgraphs(i)
        for k in range(graph.TensorsLength()):
            tensor = graph.Tensors(k)
            wide = [n for n in range(tensor.ShapeLength()) if tensor.Shape(n) > 1]
            held = file.Buffers(tensor.Buffer()).DataLength()
            if tensor.Type() == schema.TensorType.FLOAT32 and held and len(wide) > 1:
                found[tensor.Buffer()] = tensor.Name().decode()
    return sorted(found.values())
