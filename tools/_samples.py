"""What `zoo generate` and `zoo run` share: what is asked for, and files of samples."""

import importlib.util
import time
from pathlib import Path

import numpy as np
from absl import app, flags

_NUM = flags.DEFINE_integer("num", None, "Samples; 64 if unset, or one a label.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same samples.")
_LABELS = flags.DEFINE_list("labels", None, "Labels, for a conditional model.")
_SPEAKERS = flags.DEFINE_list("speakers", None, "Of speech: who says each label.")
_GUIDANCE = flags.DEFINE_float("guidance", None, "How much labels count; 1 as learned.")
_PROMPT = flags.DEFINE_string("prompt", None, "Text, or MIDI file, to go on from.")
_LENGTH = flags.DEFINE_integer("length", None, "Characters or frames to write.")
_TEMPERATURE = flags.DEFINE_float("temperature", None, "Below 1 plainer; 0 likeliest.")
_OUT = flags.DEFINE_string("out", None, "File to write; NAME.png, … if unset.")

WRITES = {"images": [".png"], "text": [".txt"], "music": [".mid", ".wav", ".png"]}
WRITES |= {"speech": [".wav", ".png"], "translation": [".txt"]}


def write(name, stem, medium, load, more=()):
    """Make samples as the flags ask, and write or print them.

    Args:
        name: What makes them, for messages.
        stem: Name of the file, where --out gives none.
        medium: What is made.
        load: Returns the model, once the flags are good.
        more: Further flags, that `generate` takes by their names.
    """
    start = time.perf_counter()
    if medium not in WRITES:
        raise app.UsageError(f"{name} makes nothing: it tells {medium} apart.")
    path = Path(_OUT.value or f"{stem}{WRITES[medium][0]}")
    if path.suffix not in WRITES[medium] or not path.absolute().parent.is_dir():
        kinds = " or ".join(WRITES[medium])
        raise app.UsageError(f"--out is a {kinds} in a folder that exists, not {path}.")
    asking = (_GUIDANCE, _LENGTH, _TEMPERATURE, _PROMPT, *more)
    asked = {f.name: f.value for f in asking if f.value is not None}
    makers = {"images": _images, "text": _text, "music": _music, "speech": _speech}
    makers["translation"] = _translation
    written = makers[medium](load, path, asked)
    if written:
        seconds = time.perf_counter() - start
        print(f"Wrote {written} of {name} in {seconds:.1f} s.")


def _given(asked):
    """Add labels and speakers to what is asked for; return how many samples that is."""
    num = _NUM.value
    for flag in (_LABELS, _SPEAKERS):
        if not flag.value:
            continue
        try:
            numbers = [int(number) for number in flag.value]
        except ValueError:
            rule = f"--{flag.name} takes whole numbers: --{flag.name} 3,1,4."
            raise app.UsageError(rule) from None
        if len(numbers) > 1 or flag is _LABELS:
            num = num or len(numbers)
        asked[flag.name] = numbers[0] if len(numbers) == 1 else numbers
    return num


def _images(load, path, asked):
    num = _given(asked)
    model = load()
    columns = model.classes if model.classes and not _LABELS.value else None
    num = num or (8 * columns if columns else 64)
    images = model.generate(num, seed=_SEED.value, **asked)
    from zoo._png import save_grid

    save_grid(path, images, columns)
    return f"{path}, {num} samples"


def _text(load, path, asked):
    """Print one text while it is written, or several; write them if asked to."""
    _given(asked)  # Which text does not take, as its model says.
    model = load()
    drawn = asked.get("num_beams") is None and hasattr(model, "stream")
    if drawn and not _OUT.value and (_NUM.value or 1) == 1:
        pieces = model.stream(seed=_SEED.value, **asked)
        print(asked.get("prompt", ""), end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return None
    texts = model.generate(_NUM.value or 1, seed=_SEED.value, **asked)
    joined = f"\n\n{'-' * 40}\n\n".join(texts) + "\n"
    if not _OUT.value:
        print(joined, end="")
        return None
    path.write_text(joined, "utf-8")
    return f"{path}, {len(texts)} texts"


def _translation(load, path, asked):
    """Print what follows from the text that is given as prompt, or write it."""
    if "prompt" not in asked:
        raise app.UsageError('This translates: say what, by --prompt "…".')
    made = load().translate(asked.pop("prompt"), seed=_SEED.value, **asked)
    if not _OUT.value:
        print(made)
        return None
    path.write_text(made + "\n", "utf-8")
    return f"{path}, 1 text"


def _music(load, path, asked):
    """Write all three files, by the name of --out with its ending changed.

    Without mido there is no MIDI; that is no fault where sound or picture is asked for.
    """
    from zoo import _midi
    from zoo._audio import save_roll, save_wav, synthesize

    if "prompt" in asked:
        asked["prompt"] = _midi.read_midi(asked["prompt"])
    if path.suffix == ".mid":
        _midi.load()
    num, midi = _NUM.value or 1, importlib.util.find_spec("mido")
    rolls = load().generate(num, seed=_SEED.value, **asked)
    wrote = []
    for i, roll in enumerate(rolls):
        stem = path.with_name(path.stem + (f"-{i + 1}" if num > 1 else ""))
        if midi:
            _midi.write_midi(stem.with_suffix(".mid"), roll)
        save_wav(stem.with_suffix(".wav"), synthesize(roll))
        save_roll(stem.with_suffix(".png"), [roll])
        ends = WRITES["music"] if midi else WRITES["music"][1:]
        wrote += [stem.with_suffix(end).name for end in ends]
    return ", ".join(wrote)


def _speech(load, path, asked):
    """Write the sounds in turn, with a pause between, and their spectrograms."""
    from zoo._audio import save_wav
    from zoo._speech import save_spectrogram

    num = _given(asked)
    model = load()
    sounds = model.generate(num or model.classes, seed=_SEED.value, **asked)
    pause = np.zeros(model.rate // 5, "float32")
    joined = np.concatenate([part for s in sounds for part in (s, pause)])
    save_wav(path.with_suffix(".wav"), joined, model.rate)
    save_spectrogram(path.with_suffix(".png"), sounds)
    return f"{path.with_suffix('.wav')} and .png, {len(sounds)} sounds"
