"""Translate pictures by a model from image to image, or texts by one of texts.

zoo translate pix2pix-emoji drawing.png                pix2pix-emoji-translated/
zoo translate pix2pix-emoji drawings --out painted     every picture of a folder
zoo translate runs/cyclegan picture.png --back         from second style to first
zoo translate runs/t5 "Ein Hund rennt." --num_beams 4  prints what that is

Pictures are brought to the model's size, and their middle is kept, as in training.
"""

import time
from pathlib import Path

import numpy as np
from absl import app, flags

import zoo
from zoo import _registry
from zoo.trainers.data import SUFFIXES, read_image, require

_OUT = flags.DEFINE_string("out", None, "Folder to write to; NAME-translated if unset.")
_BEAMS = flags.DEFINE_integer("num_beams", None, "Beginnings kept at each symbol.")
_BACK = flags.DEFINE_bool("back", False, "From the second style to the first.")


def main(argv):
    if len(argv) < 3:
        raise app.UsageError(
            "zoo translate takes a preset and pictures, or folders of them, or texts: "
            "zoo translate pix2pix-emoji drawing.png."
        )
    folder = _registry.find(argv[1])
    if _registry.medium(folder) == "translation":
        model = zoo.load(argv[1])
        for text in model.translate(argv[2:], num_beams=_BEAMS.value):
            print(text)
        return
    require("PIL", "pillow")
    start = time.perf_counter()
    out = Path(_OUT.value or f"{_registry.find(argv[1]).name}-translated")
    targets = _targets(argv[2:], out)
    model = zoo.load(argv[1])
    if _BACK.value and not hasattr(model, "back"):
        raise app.UsageError(f"{argv[1]} goes one way only; CycleGAN has --back.")
    way = {"back": True} if _BACK.value else {}
    translate = model.translate  # Says which verbs there are if this is none.
    images = [read_image(file, model.image_shape) for file in targets.values()]
    made = translate(np.stack(images), **way)
    from zoo._png import save_image

    out.mkdir(parents=True, exist_ok=True)
    for path, image in zip(targets, made):
        save_image(path, image)
    seconds = time.perf_counter() - start
    print(
        f"Wrote {len(targets)} translation{'s' if len(targets) > 1 else ''} by "
        f"{argv[1]} into {out} in {seconds:.1f} s."
    )


def _targets(sources, out):
    """Return the picture to read by the file to write, in order."""
    files = []
    for source in map(Path, sources):
        inside = sorted(f for f in source.rglob("*") if f.suffix.lower() in SUFFIXES)
        files += inside if source.is_dir() else [source]
        if not source.exists() or (source.is_dir() and not inside):
            raise app.UsageError(
                "zoo translate takes pictures, or folders of them, that end in "
                f"{', '.join(SUFFIXES)}; {source} is none."
            )
    targets = {}
    for file in files:
        path = out / f"{file.stem}.png"
        if path.exists() or path in targets:
            raise app.UsageError(
                f"{file} would become {path}, which exists or has another source. "
                "Take another folder by --out."
            )
        targets[path] = file
    return targets
