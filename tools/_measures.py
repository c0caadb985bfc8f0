"""What can be measured of a model: by name, one number each.

Programs of the zoo, and tests, measure through `measure`; it has no flags of its own.
"""

import functools
import inspect
import json

import numpy as np

import zoo
from zoo import metrics
from zoo.tools import _code, _distances
from zoo.tools._masked import masked
from zoo.tools._translation import cycle, translation
from zoo.trainers.data import open_for, require


def likelihood(model, data, samples=5000, seed=0, progress=None, limit=None):
    """Return the negative log-likelihood and ELBO in nats, lower is better.

    Of a model whose likelihood is exact, that alone; it takes no samples. Of text it is
    a character's, of the whole text read once from its start; of music, a frame's. Of
    one that bounds it by steps drawn by lot, in bits per dimension.

    Args:
        model, data, seed, progress: As in `measure`.
        samples: Of each image.
        limit: Images that are scored; None for all.
    """
    if model.medium == "text":
        return {"nll": -model.score(data.text)[0]}
    if model.medium == "music":
        frames = np.array([len(roll) for roll in data.rolls])
        return {"nll": -(model.score(data.rolls) * frames).sum() / frames.sum()}
    images, *labels = _whole(data.only(slice(limit)))
    options = {"labels": labels[0]} if labels else {}
    if "elbo" not in model.verbs():
        if "samples" in inspect.signature(model.score).parameters:
            options["samples"] = samples
        return {"nll": -model.score(images, seed=seed, **options).mean()}
    score, elbo = model.bounds(
        images, samples=samples, seed=seed, progress=progress, **options
    )
    return {"nll": -score.mean(), "elbo": -elbo.mean()}


def reconstruction(model, data):
    """Return the mean squared error a pixel, and how many latent variables vary."""
    images, *labels = _whole(data)
    return {
        "reconstruction_mse": metrics.mean_squared_error(
            model.reconstruct(images, *labels), images / np.float32(255)
        ),
        "active_units": metrics.active_units(model.encode(images, *labels)),
    }


def label_accuracy(model, data, draw, judge="lenet-mnist", num=None, seed=0):
    """Return the share of class-balanced samples that a classifier finds right.

    They are as many as the data, unless `num` says how many.
    """
    num = num or len(data)
    answers = zoo.load(judge).classify(draw(num, seed))
    return {"label_accuracy": metrics.accuracy(answers, np.arange(num) % model.classes)}


def spoken(model, data, judge="recognizer-digits", num=500, seed=0):
    """Return the shares of clips of which a recogniser finds word and speaker right.

    They are as many of each word and each speaker.
    """
    clips = model.generate(num, seed=seed)
    asked, found = model.conditions(num), zoo.load(judge).classify(clips)
    shares = [
        metrics.accuracy(p, asked[key]) for p, key in zip(found, ("labels", "speakers"))
    ]
    return dict(zip(("word accuracy", "speaker accuracy"), shares))


def accuracy(model, data):
    """Return the share of the test set that is classified right.

    Of speech there are two: the words, and as `speaker accuracy` the speakers.
    """
    if model.medium == "sounds":
        found = model.classify(data.images)
        shares = [metrics.accuracy(p, data.labels[:, i]) for i, p in enumerate(found)]
        return dict(zip(("word accuracy", "speaker accuracy"), shares))
    images, labels = _whole(data)
    return {"accuracy": metrics.accuracy(model.classify(images), labels)}


def harmony(model, data, train, num=77, length=64, seed=0):
    """Return what is odd in pieces that are made and, `of test`, in real ones."""
    found, known = {}, _rolls(train().rolls)
    pieces = model.generate(num, seed=seed, length=length)
    for end, rolls in (("", pieces), (" of test", _rolls(data.rolls))):
        found["unknown chords" + end] = metrics.unknown_chords(rolls, known)
        found["parallel fifths" + end] = metrics.parallel_fifths(rolls)
        found["voice overlaps" + end] = metrics.voice_overlaps(rolls)
    return found


def _rolls(pieces):
    """Return pieces, piano rolls or a list of keys for each frame, as piano rolls."""
    if isinstance(pieces[0], np.ndarray):
        return pieces
    rolls = [np.zeros((len(piece), 128), bool) for piece in pieces]
    for roll, piece in zip(rolls, pieces):
        for time, keys in enumerate(piece):
            roll[time, np.asarray(keys, int)] = True
    return rolls


def bleu(model, data, num_beams=None):
    """Return the BLEU of translations, by beams or, as `BLEU greedy`, without."""
    require("sacrebleu", "sacrebleu")
    import sacrebleu

    rows = data[np.arange(len(data))]
    source, target = ([model.text(row) for row in side] for side in rows)
    made = model.translate(source, num_beams=num_beams)
    name = "BLEU" if num_beams else "BLEU greedy"
    return {name: sacrebleu.corpus_bleu(made, [target]).score}


def words(model, data, **options):
    """Return the accuracies of a recogniser, or those of what is made to be one."""
    return (accuracy if model.medium == "sounds" else spoken)(model, data, **options)


MEASURES = {
    "nll": likelihood,
    "elbo": likelihood,
    "reconstruction_mse": reconstruction,
    "active_units": reconstruction,
    "label_accuracy": label_accuracy,
    "accuracy": accuracy,
    "word accuracy": words,
    "speaker accuracy": words,
    "cycle error": cycle,
    "BLEU": bleu,
    "BLEU greedy": bleu,
}
for _what in ("unknown chords", "parallel fifths", "voice overlaps"):
    MEASURES |= {_what: harmony, f"{_what} of test": harmony}
for _end in ("", " of gzip", " of xz", " of xz after training text"):
    MEASURES["bits a byte" + _end] = _code.compression
MEASURES["functions that parse"] = _code.parsed
MEASURES["answers by heart"] = _code.recited
for _end in ("", " of unigram", " of bigram"):
    MEASURES["masked accuracy" + _end] = masked
for _end in ("", " of grey fill", " of nearest drawing"):
    MEASURES |= dict.fromkeys(("mae" + _end, "perceptual" + _end), translation)


def measure(model, data, wanted, progress=None, train=None):
    """Measure a model.

    Args:
        model: A model of the zoo.
        data: A `Data`, its test set.
        wanted: dict of metric name to options, such as {"nll": {"samples": 5000}} or
            {"FD[lenet-mnist]@10k": {}}.
        progress: Called with the share done of a long measurement, if given.
        train: Function without arguments that opens the training `Data`; bracketed
            names need it.

    Returns:
        dict: metric name to float.

    Raises:
        ValueError: A metric is unknown, or of fewer than 2,000 samples without the
            option {"few": True}.
    """
    unknown = [n for n in wanted if n not in MEASURES and not _distances.parse(n)]
    if unknown:
        raise ValueError(
            f"There is no metric {', '.join(unknown)}; there are "
            f"{', '.join([*MEASURES, *_distances.BETWEEN])}, the last ten also as "
            "FD[lenet-mnist]@10k."
        )
    results, done = {}, {}

    @functools.cache  # What several numbers are of is drawn once.
    def draw(num, seed):
        return model.generate(num, seed=seed)

    for name, options in wanted.items():
        if name not in MEASURES:
            results[name] = _between(name, model, data, train, done, draw, **options)
            continue
        function = MEASURES[name]
        key = (function, json.dumps(options, sort_keys=True))
        if key not in done:  # One pass gives several numbers.
            more = {"progress": progress, "train": train, "draw": draw}
            takes = inspect.signature(function).parameters
            options = {**options, **{k: v for k, v in more.items() if k in takes}}
            done[key] = function(model, data, **options)
        if name not in done[key]:
            raise ValueError(f"A {type(model).__name__} has no {name}.")
        results[name] = float(done[key][name])
    return results


def _between(name, model, data, train, done, draw, few=False, seed=0, labels=None):
    what, which, judge, num = _distances.parse(name)
    num = min(num, len(data))
    if num < _distances.FEWEST and not few:
        raise ValueError(
            f"{name} takes {_distances.FEWEST:,} samples or more, and as many test "
            f"images; here {num:,}. With --few, the option few, it is measured all the "
            "same, and says little."
        )
    key = judge, num, seed, labels
    if key not in done:
        done[key] = _distances.Sets(model, data, train, judge, num, seed, labels, draw)
    return float(_distances.BETWEEN[what](done[key], which))


def held_out(card, model, address=None, manual_dir=None, split=None):
    """Return a split of the data a preset was trained on, or of another.

    Without `split` that is the recipe's `held_out`, or "test".
    """
    recipe = card.get("recipe", {})
    address, split = (
        address or recipe.get("data"),
        split or recipe.get("held_out", "test"),
    )
    if not address:
        raise ValueError("The preset names no data of its own; say --data.")
    return open_for(model, address, split or "test", manual_dir)


def _whole(data):
    """Return all images, uint8, and the labels where there are any, in a list."""
    everything = data[np.arange(len(data))]
    return list(everything) if isinstance(everything, tuple) else [everything]
