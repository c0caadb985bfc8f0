"""What shows a preset: grids of samples, texts, and what its latent variables do."""

from pathlib import Path

import keras
import numpy as np

from zoo import metrics
from zoo._audio import save_roll, save_wav, synthesize
from zoo._midi import write_midi
from zoo._optimizers import averaged
from zoo._png import grid, save_grid
from zoo._saving import whole
from zoo._speech import save_spectrogram
from zoo.metrics._pairs import squared_distances
from zoo.trainers.data import require

SAMPLES = {  # Files by medium; the first is written after each epoch too.
    "images": ["samples.png"],
    "text": ["samples.txt"],
    "translation": ["samples.txt"],
    "speech": ["samples.wav", "samples.png"],
    "music": ["samples.png", "samples.wav", "samples.mid"],
}


def can_sample(model):
    """Say whether a model makes anything that can be shown without being asked."""
    return "generate" in model.verbs() or model.pairs


def save_samples(model, path, test=None, train=None):
    """Write the grid of a preset, seed 0: 8 × 8, or one column for each label.

    Of a model of music: three piano rolls of 64 frames; of speech: spectrograms.

    Of a model from image to image: test images, what it makes of them and, last, what
    there was to make; of one that goes back, the way back too.
    """
    if model.medium == "speech":
        sounds = model.generate(10, seed=0)
        return save_spectrogram(path, sounds)
    if model.medium == "music":
        return save_roll(path, model.generate(3, seed=0, length=64))
    if not model.pairs:
        columns = model.classes or 8
        return save_grid(path, model.generate(8 * columns, seed=0), columns)
    rows = np.random.default_rng(0).permutation(len(test))[:24]
    first, second = (part / np.float32(255) for part in test[rows])
    shown = [first, model.translate(first), second]
    if hasattr(model, "back"):
        shown.append(model.translate(second, back=True))
    images = np.stack(shown, axis=1).reshape(-1, *model.image_shape)
    return save_grid(path, images, columns=4 * len(shown))


def save_text(model, path, test=None, train=None, num=4, length=500):
    """Write a few texts of a preset, seed 0, from the start of a line where it can.

    Of a model from text to text, what it makes of the first of `test`; of one that
    fills in, what it finds in lines of `test`; of one that chats, what it answers to
    the first turns of `test` at temperature 0.5, and what was answered there.
    """
    data = train if test is None else test
    if model.pairs:
        rows = data[np.arange(min(8, len(data)))]
        source, target = ([model.text(row) for row in side] for side in rows)
        triples = zip(source, model.translate(source), target)
        texts = [f"{a}\n-> {b}\n   ({c})" for a, b, c in triples]
        return Path(path).write_text("\n\n".join(texts) + "\n", "utf-8")
    if "fill" in model.verbs():
        lines = _filled(model, data.text)
        texts = "\n".join([*lines, "", *model.generate(num, seed=0)])
        return Path(path).write_text(texts + "\n", "utf-8")
    if "chat" in model.verbs():
        chats = [text.splitlines() for text in data.texts[:12]]
        found = [model.chat(a, seed=0, temperature=0.5) for a, *_ in chats]
        said = [f"{a}\n-> {c}\n   ({b})" for (a, b, *_), c in zip(chats, found)]
        return Path(path).write_text("\n\n".join(said) + "\n", "utf-8")
    prompt = "\n" if "\n" in (model.vocabulary or "") else ""
    texts = model.generate(num, seed=0, length=length, prompt=prompt)
    between = f"\n\n{'-' * 40}\n\n"
    Path(path).write_text(between.join(t.strip("\n") for t in texts) + "\n", "utf-8")


def _filled(model, text, num=12, top=3):
    """Return lines with a word hidden, seed 0, what was there and what is likely."""
    generator, shown = np.random.default_rng(0), []
    lines = [line for line in text.splitlines() if 6 <= line.count(" ") <= 10]
    for i in generator.permutation(len(lines))[:num]:
        words = lines[i].split()
        place = generator.integers(len(words))
        words[place], was = "[MASK]", words[place]
        (found,) = model.fill(" ".join(words), top=top)
        likely = ", ".join(f"{piece} {odds:.2f}" for piece, odds in found)
        shown.append(f"{' '.join(words)}\n-> {likely}\n   ({was})\n")
    return shown


def save_sound(model, path, test=None, train=None):
    """Write the sound of the first of the samples; of speech, of ten, in turn."""
    if model.medium == "speech":
        pause = np.zeros(model.rate // 5, "float32")
        parts = [x for s in model.generate(10, seed=0) for x in (s, pause)]
        return save_wav(path, np.concatenate(parts), model.rate)
    # Sixteen seconds of the samples' first piece. Partials beyond 4 kHz, which only the
    # highest notes have, are left out: that takes a quarter of a megabyte, not half.
    roll = model.generate(1, seed=0, length=24)[0]
    save_wav(path, synthesize(roll, rate=8_000), 8_000)


def save_midi(model, path, test=None, train=None):
    """Write the first of the samples as MIDI."""
    write_midi(path, model.generate(1, seed=0, length=64)[0])


def save_closest(model, path, test, train, num=1_000, pairs=16):
    """Write the samples most like copies of a training image, each left of its image.

    Those whose distance to the nearest training image is the smallest share of the
    distance from there to the next training image; Euclidean over pixels. Distance
    alone would show the plainest images, which are all alike. For variety, training
    images shown differ by as much as half of all pairs do, as long as there are such.
    """
    samples = model.generate(num, seed=0)
    found = train[np.arange(len(train))]
    images = (found[0] if isinstance(found, tuple) else found) / np.float32(255)
    index, distance = metrics.nearest(samples, images)
    rows = images.reshape(len(images), -1).astype("float64")
    room = [
        np.sqrt(np.partition(squared, 1, axis=1)[:, 1])  # The nearest is itself.
        for _, squared in squared_distances(rows[index], rows)
    ]
    order = np.argsort(distance / np.maximum(np.concatenate(room), 1e-9))
    best = rows[index[order]]
    apart = np.concatenate([np.sqrt(x) for _, x in squared_distances(best, best)])
    shown, least = [], np.median(apart)
    for rank, others in enumerate(apart):
        if (others[shown] >= least).all():
            shown.append(rank)
    shown += [rank for rank in range(len(order)) if rank not in shown]
    shown = order[shown[:pairs]]
    both = np.stack([samples[shown], images[index[shown]]], axis=1)
    save_grid(path, both.reshape(-1, *model.image_shape), columns=8)


def save_traversals(model, path, test=None, train=None, rows=10, columns=11, reach=2.5):
    """Write what each latent variable does: one row each, from -reach to reach.

    The others stay at zero. The rows are those variables whose posterior mean varies
    most over 1,000 samples of the model, most first.

    Args:
        model: An autoencoder with standard normal codes.
        path: PNG file to write.
        test, train: As for the other pictures, not used.
        rows: Latent variables shown, at most.
        columns: Values of each.
        reach: Largest value, in standard deviations of the prior.
    """
    varying = model.encode(model.generate(1000, seed=0)).var(axis=0)
    chosen = np.argsort(-varying)[:rows]
    codes = np.zeros((len(chosen), columns, model.latent), "float32")
    for row, unit in enumerate(chosen):
        codes[row, :, unit] = np.linspace(-reach, reach, columns)
    save_grid(path, model.decode(codes.reshape(-1, model.latent)), columns)


def save_inpainting(model, path, test, train=None, num=10, ways=3):
    """Write test images, each with a half hidden, and ways to fill it; seeds 0, 1, ….

    A column for each image, one for each label where there are any; the lower half of
    every other image is hidden, the right half of the rest.

    Args:
        model: One that inpaints.
        path: PNG file to write.
        test: The test `Data`.
        train: As for the other pictures, not used.
        num: Images without labels.
        ways: Rows of filled images.
    """
    found = test[np.arange(min(len(test), 1_000))]
    given, chosen = {}, np.arange(min(len(test), num))
    if model.classes:
        found, labels = found
        chosen = [np.flatnonzero(labels == k)[:1] for k in range(model.classes)]
        chosen = np.concatenate(chosen)
        given["labels"] = labels[chosen]
    images = found[chosen] / np.float32(255)
    mask = np.ones_like(images)
    mask[::2, images.shape[1] // 2 :] = 0
    mask[1::2, :, images.shape[2] // 2 :] = 0
    shown = [images, np.where(mask > 0, images, 0.5)]
    for seed in range(ways):
        shown.append(model.inpaint(images, mask, seed=seed, **given))
    save_grid(path, np.concatenate(shown), columns=len(images))


def save_denoising(model, path, test=None, train=None, rows=1, pause=1.5):
    """Write a film of noise that turns into images, as a GIF: seed 0, labels in turn.

    In sixteen shades, since noise in all of them takes four times the room.

    Args:
        model: A denoiser.
        path: File to write.
        test, train: As for the other pictures, not used.
        rows: Of images, in columns as `save_samples` has them.
        pause: Seconds that the last picture stays.
    """
    require("PIL", "pillow")
    from PIL import Image

    columns, films = model.classes or 8, []
    model.generate(
        rows * columns, seed=0, on_step=lambda _, images: films.append(images)
    )
    films = [grid(images, columns) // 17 * 17 for images in films]
    films = [film.repeat(2, 0).repeat(2, 1) for film in films]
    frames = [Image.fromarray(film.squeeze()) for film in films]
    times = [120] * (len(frames) - 1) + [round(1000 * pause)]
    with whole(path) as scratch:
        frames[0].save(
            scratch,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=times,
            loop=0,
        )


PICTURES = {
    "samples.png": save_samples,
    "samples.txt": save_text,
    "samples.wav": save_sound,
    "samples.mid": save_midi,
    "traversals.png": save_traversals,
    "closest.png": save_closest,
    "inpainting.png": save_inpainting,
    "denoising.gif": save_denoising,
}


class Grid(keras.callbacks.Callback):
    """Write samples of the same noise at ends of epochs: a grid, or a text.

    Where the optimizer averages weights, by the averages, as the end will have them.

    Args:
        folder: Where to.
        data: `Data` of pairs, for a model from image to image.
        every: Epochs from one grid to the next.
    """

    def __init__(self, folder, data=None, every=1):
        super().__init__()
        self.folder, self.data, self.every = folder, data, every
        folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        if can_sample(self.model) and not (epoch + 1) % self.every:
            name = SAMPLES[self.model.medium][0]
            path = self.folder / f"epoch_{epoch + 1:04d}{Path(name).suffix}"
            with averaged(self.model):
                PICTURES[name](self.model, path, self.data)
