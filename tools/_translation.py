"""How well images are translated, beside what needs no learning."""

import numpy as np

import zoo
from zoo import metrics

GREY = np.float32(0.5)


def translation(model, data, train, judge="lenet-emoji"):
    """Return errors of translations of held-out pairs, lower is better.

    `mae` is the mean absolute error of a pixel in [0, 1]; `perceptual` the mean
    Euclidean distance in the features of a judge. Both also for two translations
    that nobody has to learn: `grey fill` paints what the lines enclose grey, and
    `nearest drawing` takes the picture of the training drawing that is most alike.
    """
    drawings, pictures = _pairs(data)
    known, answers = _pairs(train())
    index, _ = metrics.nearest(drawings, known)
    made = {
        "": model.translate(drawings),
        " of grey fill": grey_fill(drawings),
        " of nearest drawing": answers[index],
    }
    extractor, found = zoo.load(judge), {}
    truth = extractor.features(pictures)
    for name, images in made.items():
        apart = extractor.features(images) - truth
        found["mae" + name] = np.abs(images - pictures).mean()
        found["perceptual" + name] = np.linalg.norm(apart, axis=1).mean()
    return found


def cycle(model, data):
    """Return the mean absolute error of a pixel after both ways, over both styles."""
    first, second = _pairs(data)
    there = model.translate(model.translate(first), back=True)
    back = model.translate(model.translate(second, back=True))
    error = 0.5 * (np.abs(there - first).mean() + np.abs(back - second).mean())
    return {"cycle error": error}


def grey_fill(drawings):
    """Return line drawings with the parts that lines enclose in grey.

    Args:
        drawings: (N, height, width, channels) in [0, 1], dark lines on white.
    """
    paper = drawings.mean(-1) > 0.5  # (N, height, width)
    outside = np.zeros_like(paper)
    frame = np.ones(paper.shape[1:], bool)
    frame[1:-1, 1:-1] = False
    outside[:, frame] = paper[:, frame]
    for _ in range(paper[0].size):  # The white outside spreads until lines stop it.
        room = np.pad(outside, ((0, 0), (1, 1), (1, 1)))
        near = room[:, :-2, 1:-1] | room[:, 2:, 1:-1]
        near |= room[:, 1:-1, :-2] | room[:, 1:-1, 2:]
        wider = outside | (near & paper)
        if (wider == outside).all():
            break
        outside = wider
    inside = (paper & ~outside)[..., None]
    return np.where(inside, GREY, drawings)


def _pairs(data):
    return [part / np.float32(255) for part in data[np.arange(len(data))]]
