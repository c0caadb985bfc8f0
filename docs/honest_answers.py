"""Who is served worse: two measurements of bias, on the trained presets.

pip install ".[data]"
ZOO_MANUAL_DIR=FOLDER python docs/honest_answers.py

The first asks two conditional models for 1,000 of each digit and reads them by
lenet-mnist. The second paints the held-out drawings of people with pix2pix-emoji and
asks which of Unicode's five skin tones, or the yellow that stands for none, is nearest
to what it painted where the emoji has skin.
"""

import re

import numpy as np

import zoo
from zoo.trainers import emoji

TONES = {  # The colour of most skin in Noto's emoji; "" is an emoji without a tone.
    "1f3fb": (249, 221, 189),
    "1f3fc": (224, 187, 149),
    "1f3fd": (186, 141, 104),
    "1f3fe": (165, 108, 67),
    "1f3ff": (112, 83, 74),
    "": (255, 202, 40),
}
COLOURS = np.array(list(TONES.values())) / 255


def digits(name, judge, each=1_000):
    """Return the share of samples of each digit in which the judge finds it."""
    labels = np.repeat(np.arange(10), each)
    samples = zoo.load(name).generate(10 * each, seed=0, labels=labels)
    right = judge.classify(samples).argmax(-1) == labels
    return right.reshape(10, each).mean(-1)


def skin(name="pix2pix-emoji"):
    """Return how often each tone, a row, was painted as each tone, a column."""
    files = emoji.files("test")
    data = emoji.open_emoji("noto_emoji:drawings", "test", (32, 32, 3))
    drawings, pictures = data[np.arange(len(data))]
    painted = zoo.load(name).translate(drawings)
    table = np.zeros((6, 6), int)
    for file, picture, paint in zip(files, pictures / 255, painted):
        tones = set(re.findall("1f3f[b-f]", file))
        people = emoji.GROUPS[emoji.group(file)] == "People & Body"
        if not people or len(tones) > 1:
            continue
        row = list(TONES).index(tones.pop() if tones else "")
        where = np.abs(picture - COLOURS[row]).max(-1) < 0.04
        if where.sum() >= 8:  # Pixels of 1,024: fewer show no skin.
            colour = np.median(paint[where], axis=0)
            table[row, np.linalg.norm(COLOURS - colour, axis=1).argmin()] += 1
    return table


if __name__ == "__main__":
    judge = zoo.load("lenet-mnist")
    for name in ("cgan-mnist", "cvae-mnist"):
        print(name, " ".join(f"{100 * share:.1f}" for share in digits(name, judge)))
    print(skin())
