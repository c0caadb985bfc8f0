"""Noto's emoji as training data: pictures, drawings of them, and captions.

    data = open_data("noto_emoji", "train", (32, 32, 3), labels=True)
    pairs = open_data("noto_emoji:drawings", "train", (32, 32, 3))
    drawings, pictures = pairs[:8]

A tenth of the pictures, "test", is held out by families: the skin tones, genders, hair
and directions of one emoji are near twins, and stay on one side.
"""

import csv
import io
import os
import re
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.trainers.data import Data, DataError, read_image, require

ADDRESSES = ("noto_emoji", "noto_emoji:drawings", "noto_emoji:styles")
SPLITS = ("train", "test")
PICTURES, CAPTIONS = "noto-emoji-32.zip", "captions.tsv"

# From Unicode's emoji-test.txt up to version 16, by first code point, merged over those
# that no emoji has. Its components, bare skin tones and hair, are with People & Body.
_RANGES = {
    "Smileys & Emotion": """
        2620 2639-263a 2763-2764 1f479-1f47b 1f47d-1f480 1f48b-1f48c 1f493-1f49f
        1f4a2 1f4a4-1f4a6 1f4a8-1f4a9 1f4ab-1f4ad 1f4af 1f573 1f5a4 1f5e8-1f5ef
        1f600-1f644 1f648-1f64a 1f90d-1f90e 1f910-1f917 1f920-1f925 1f927-1f92f
        1f970-1f976 1f978-1f97a 1f9d0 1f9e1 1fa75-1fa77 1fae0-1fae5 1fae8-1fae9""",
    "People & Body": """
        261d 26f7 26f9 270a-270d 1f385 1f3c2-1f3c4 1f3c7 1f3ca-1f3cc 1f3fb-1f3ff
        1f440-1f450 1f463-1f478 1f47c 1f481-1f483 1f485-1f487 1f48f 1f491 1f4aa
        1f574-1f575 1f57a 1f590-1f596 1f5e3 1f645-1f647 1f64b-1f64f 1f6a3
        1f6b4-1f6b6 1f6c0 1f6cc 1f90c 1f90f 1f918-1f91f 1f926 1f930-1f93e 1f977
        1f9b0-1f9b9 1f9bb 1f9be-1f9bf 1f9cc-1f9cf 1f9d1-1f9e0 1fac0-1fac6 1fae6
        1faf0-1faf8""",
    "Animals & Nature": """
        2618 1f331-1f335 1f337-1f33c 1f33e-1f344 1f3f5 1f400-1f43f 1f490 1f4ae
        1f54a 1f577-1f578 1f940 1f981-1f98f 1f992-1f99d 1f99f-1f9a9 1f9ab-1f9ae
        1fab0-1fab4 1fab6-1fabf 1face-1facf""",
    "Food & Drink": """
        2615 1f32d-1f330 1f336 1f33d 1f345-1f37f 1f382 1f3fa 1f52a 1f942-1f944
        1f950-1f96f 1f980 1f990-1f991 1f99e 1f9aa 1f9c0-1f9cb 1fad0-1fadc""",
    "Travel & Places": """
        231a-231b 23f0-23f3 2600-2604 2614 2668 2693 26a1 26c4-26c8 26e9-26f2
        26f4-26f5 26fa-26fd 2708 2744 2b50 1f300-1f32c 1f3a0-1f3a2 1f3aa
        1f3cd-1f3ce 1f3d4-1f3e6 1f3e8-1f3ed 1f3ef-1f3f0 1f488 1f492 1f4a7 1f4ba
        1f525 1f54b-1f54d 1f550-1f567 1f570 1f5fa-1f5fe 1f680-1f6a2 1f6a4-1f6a8
        1f6b2 1f6ce 1f6d1 1f6d5-1f6d6 1f6dd-1f6df 1f6e2-1f6f6 1f6f8-1f6fc
        1f9bc-1f9bd 1f9ed 1f9f1 1f9f3 1fa82 1fa90 1faa8 1fab5""",
    "Activities": """
        265f-2666 26bd-26be 26f3 26f8 2728 1f004-1f0cf 1f380-1f381 1f383-1f384
        1f386-1f38b 1f38d-1f391 1f396-1f397 1f39f 1f3a3 1f3a8 1f3ab 1f3ad-1f3b4
        1f3bd-1f3c0 1f3c5-1f3c6 1f3c8-1f3c9 1f3cf-1f3d3 1f3f8 1f52b 1f52e 1f579
        1f5bc 1f6f7 1f93f 1f945-1f94f 1f9e7-1f9e9 1f9f5-1f9f6 1f9f8 1fa80-1fa81
        1fa84-1fa86 1faa1-1faa2 1faa9""",
    "Objects": """
        2328 260e 2692 2694 2696-2699 26b0-26b1 26cf-26d3 2702 2709 270f-2712
        1f392-1f393 1f399-1f39e 1f3a4-1f3a5 1f3a7 1f3a9 1f3ac 1f3b5-1f3bc 1f3ee
        1f3f7 1f3f9 1f451-1f462 1f484 1f489-1f48a 1f48d-1f48e 1f4a1 1f4a3 1f4b0
        1f4b3-1f4b9 1f4bb-1f4da 1f4dc-1f4f2 1f4f7-1f4ff 1f507-1f517 1f526-1f529
        1f52c-1f52d 1f56f 1f576 1f587-1f58d 1f5a5-1f5b2 1f5c2-1f5e1 1f5f3 1f5ff
        1f6aa 1f6ac 1f6bd 1f6bf 1f6c1 1f6cb 1f6cd 1f6cf 1f6d2 1f6d7 1f6e0-1f6e1
        1f941 1f97b-1f97f 1f9af 1f9ba 1f9e2-1f9e6 1f9ea-1f9ec 1f9ee-1f9f0 1f9f2
        1f9f4 1f9f7 1f9f9-1fa74 1fa78-1fa7c 1fa83 1fa87-1fa8f 1fa91-1faa0
        1faa3-1faa7 1faaa-1faae 1fae7""",
    "Symbols": """
        23-21aa 23cf-23ef 23f8-25fe 2611 2622-2638 2640-2653 267b-267f 2695
        269b-26a0 26a7-26ab 26ce 26d4 2705 2714-2721 2733-2734 2747-2757
        2795-2b1c 2b55-3299 1f170-1f19a 1f201-1f251 1f3a6 1f3e7 1f4a0
        1f4b1-1f4b2 1f4db 1f4f3-1f4f6 1f500-1f506 1f518-1f524 1f52f-1f549 1f54e
        1f6ab 1f6ad-1f6b1 1f6b3 1f6b7-1f6bc 1f6be 1f6c2-1f6c5 1f6d0 1f6dc
        1f7e0-1f7f0 1faaf 1fadf""",
    "Flags": """
        1f1e6-1f1ff 1f38c 1f3c1 1f3f3-1f3f4 1f6a9""",
}
GROUPS = tuple(_RANGES)

# An emoji that is not in the group of its first code point: eye in speech bubble.
_OTHERWISE = {"1f441_200d_1f5e8": GROUPS.index("Smileys & Emotion")}

# What tells twins apart: skin tones, hair, joiners, gender signs, a direction.
_VARIANTS = re.compile(r"1f3f[b-f]|1f9b[0-3]|200d|fe0f|2640|2642|27a1")
_NEUTRAL = {"1f468": "1f9d1", "1f469": "1f9d1", "1f466": "1f9d2", "1f467": "1f9d2"}
# One code point for what other tones write as a sequence.
_SEQUENCES = {
    **dict.fromkeys(("1f46b", "1f46c", "1f46d"), "1f9d1_1f91d_1f9d1"),
    "1f46a": "1f9d1_1f9d1_1f9d2",
    "1f48f": "1f9d1_2764_1f48b_1f9d1",
    "1f491": "1f9d1_2764_1f9d1",
    "1f91d": "1faf1_1faf2",
}


def open_emoji(address, split, image_shape, labels=False, manual_dir=None):
    """Return the `Data` of an address; `open_data` comes here.

    The rows of "noto_emoji" are pictures, uint8 on white, and with `labels` also the
    number of the group in `GROUPS`. Those of the other two are pairs (drawing,
    picture), whatever `labels` is. In "noto_emoji:drawings" both are of one emoji. In
    "noto_emoji:styles" the drawings to train on are of one half of the emoji and the
    pictures of the other, in no common order; its test rows are of one emoji again.

    Args:
        address: One of `ADDRESSES`.
        split: "train" or "test".
        image_shape: (size, size, 3); the pictures have 32.
        labels: Whether labels are wanted.
        manual_dir: Folder of the files; also $ZOO_MANUAL_DIR/noto_emoji.

    Raises:
        DataError: The address, split or shape is another, or a file is missing or
            damaged.
    """
    shape = tuple(image_shape)
    if address not in ADDRESSES:
        raise DataError(f"The emoji are {', '.join(ADDRESSES)}; got {address}.")
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
        raise DataError(f"Emoji have the shape (size, size, 3); got {shape}.")
    names, name = files(split, manual_dir), f"{address} {split}"
    pictures = _pictures(_find(PICTURES, manual_dir), names, shape)
    if address == "noto_emoji":
        numbers = np.array([group(file) for file in names], "int32")
        return Data(pictures, numbers if labels else None, name=name)
    if address == "noto_emoji:drawings" or split == "test":
        return Data(draw(pictures), pictures, name=name)
    chosen = _some(names, len(names) // 2)
    half = np.flatnonzero([file in chosen for file in names])
    other = np.flatnonzero([file not in chosen for file in names])
    other = np.random.default_rng(0).permutation(other)[: len(half)]
    return Data(draw(pictures[half[: len(other)]]), pictures[other], name=name)


def captions(split, manual_dir=None):
    """Return the caption of each row of a split, a list of str.

    Raises:
        DataError: The file is missing or damaged, or lacks a picture.
    """
    path = _find(CAPTIONS, manual_dir)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            known = {row[0]: row[1] for row in rows if len(row) == 2}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no sound table of captions: {error}") from error
    names = files(split, manual_dir)
    for name in names:
        if name not in known:
            raise DataError(f"Each picture has a caption; {path} has none of {name}.")
    return [known[name] for name in names]


def files(split, manual_dir=None):
    """Return the file name of each row of a split, sorted."""
    if split not in SPLITS:
        raise DataError(f"The emoji's splits are {', '.join(SPLITS)}; got {split}.")
    path = _find(PICTURES, manual_dir)
    names = sorted(name for name in _members(path) if group(name) is not None)
    if not names:
        raise DataError(f"{path} holds no emoji; they are called emoji_u1f600.png.")
    held = _some(names, len(names) // 10)
    return [name for name in names if (name in held) == (split == "test")]


def group(name):
    """Return the index in `GROUPS` of a file's emoji; None if Unicode gives none."""
    found = re.fullmatch(r"emoji_u([0-9a-f]+)((?:_[0-9a-f]+)*)\.png", name)
    if not found:
        return None
    otherwise = _OTHERWISE.get(found[1] + found[2])
    return _GROUP_OF.get(int(found[1], 16)) if otherwise is None else otherwise


def family(name):
    """Return what near twins have in common: a file's code points without variants."""
    codes = name.removeprefix("emoji_u").removesuffix(".png").split("_")
    kept = [code for code in codes if not _VARIANTS.fullmatch(code)] or codes
    joined = "_".join(_NEUTRAL.get(code, code) for code in kept)
    return _SEQUENCES.get(joined, joined)


def draw(pictures):
    """Return line drawings of pictures, dark on white, uint8 in three equal channels.

    A line is where a pixel is darker than one beside it, in any channel: the dark side
    of an edge, one pixel wide. Outside of the picture is white.

    Args:
        pictures: uint8, (N, height, width, 3).
    """
    height, width = pictures.shape[1:3]
    space = ((0, 0), (1, 1), (1, 1), (0, 0))
    padded = np.pad(pictures.astype("int32"), space, constant_values=255)
    beside = [
        padded[:, top : top + height, left : left + width]
        for top, left in ((0, 1), (2, 1), (1, 0), (1, 2))
    ]
    edge = (np.max(beside, axis=0) - pictures).max(axis=-1, keepdims=True)
    # Shading, up to 13 of 255, is no line; half of the range is a black one.
    ink = np.clip((edge - 13) * 255 // 115, 0, 255)
    return np.repeat(255 - ink, 3, axis=-1).astype("uint8")


def _some(names, num):
    """Return the set of `num` names, or as near below, in whole families by lot."""
    families = {}
    for name in names:
        families.setdefault(family(name), []).append(name)
    members, chosen = list(families.values()), set()
    for index in np.random.default_rng(0).permutation(len(members)):
        if len(chosen) + len(members[index]) <= num:
            chosen.update(members[index])
    return chosen


def _find(file, manual_dir):
    home = os.environ.get("ZOO_MANUAL_DIR")
    for folder in (manual_dir, home and Path(home) / "noto_emoji"):
        if folder and (Path(folder) / file).is_file():
            return Path(folder) / file
    raise DataError(
        f"The emoji's {file} is not on this machine. Put these files into a folder "
        "named by --manual_dir, or into $ZOO_MANUAL_DIR/noto_emoji:\n"
        f"  {PICTURES}  the PNG files of the folder png/32 (Apache-2.0), zipped\n"
        "    https://github.com/googlefonts/noto-emoji/tree/main/png/32\n"
        f"  {CAPTIONS}  for captions: a header, then file name, tab, Unicode's name\n"
        "    https://unicode.org/Public/emoji/latest/emoji-test.txt"
    )


def _members(path):
    """Return the paths inside a zip by file name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {PurePosixPath(name).name: name for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no sound zip file: {error}") from error


def _pictures(path, names, image_shape):
    require("PIL", "pillow")
    images = np.empty((len(names), *image_shape), "uint8")
    members = _members(path)
    with zipfile.ZipFile(path) as archive:
        for row, name in enumerate(names):
            try:
                image = io.BytesIO(archive.read(members[name]))
                images[row] = read_image(image, image_shape)
            except Exception as error:  # The zip's and Pillow's own are of many types.
                raise DataError(f"{name} in {path} cannot be read: {error}") from error
    return images


def _spread(ranges):
    """Return group index by code point."""
    groups = {}
    for index, text in enumerate(ranges.values()):
        for run in text.split():
            first, _, last = run.partition("-")
            for code in range(int(first, 16), int(last or first, 16) + 1):
                groups[code] = index
    return groups


_GROUP_OF = _spread(_RANGES)
