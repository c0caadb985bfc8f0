"""Quality against the number of evaluations, for each solver: of ddpm-mnist.

Fréchet distance of samples, seed 0, labels in turn, to as many MNIST test images, in
the features of lenet-mnist. A solver of two evaluations a step takes half the steps;
there is no guidance, which would double them.
The floor is that of as many training images.
"""

import dataclasses

from zoo.tools._benchmark import installed

TITLE = "Fréchet distance of ddpm-mnist against evaluations of its network"
PEER = None
EXAMPLES = 2_000  # Samples, unless --examples says otherwise.
ROUNDS = None
PRESET, JUDGE, DATA = "ddpm-mnist", "lenet-mnist", "tfds:mnist"
EVALUATIONS = 5, 10, 20, 50, 100


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        solver: Its name; "floor" for training images.
        evaluations: Of the network for an image.
        distance: Fréchet, in the judge's features.
    """

    solver: str
    evaluations: int
    distance: float


def measure(setting):
    """Return a `Row` for each solver and number, and one for the floor."""
    import numpy as np

    import zoo
    from zoo.metrics import frechet_distance
    from zoo.trainers.data import open_data

    model, judge = zoo.load(PRESET), zoo.load(JUDGE)
    test, train = (open_data(DATA, s, model.image_shape) for s in ("test", "train"))
    num = min(setting.examples, len(test))
    real = judge.features(test[np.arange(num)])

    def distance(images):
        return float(frechet_distance(real, judge.features(images)))

    index = np.random.default_rng(0).permutation(len(train))[:num]
    rows = [Row("floor", 0, distance(train[np.sort(index)]))]
    for solver in model.solvers:
        for count in EVALUATIONS:
            setting.tell(f"{solver}, {count} evaluations, {num:,} samples")
            how = {"solver": solver, "steps": steps(solver, count), "guidance": 1.0}
            images = model.generate(num, 0, **how)
            rows.append(Row(solver, count, distance(images)))
    return rows


def steps(solver, evaluations):
    """Return the steps that a solver takes in so many evaluations, or one fewer."""
    return (evaluations + 1) // 2 if solver == "heun" else evaluations


def told(rows):
    """Return the table, its note and the result."""
    floor = next(row.distance for row in rows if row.solver == "floor")
    counts = sorted({row.evaluations for row in rows if row.evaluations})
    found = {(row.solver, row.evaluations): row.distance for row in rows}
    solvers = list(dict.fromkeys(row.solver for row in rows if row.evaluations))
    cells = [("SOLVER", *(f"{count}" for count in counts))]
    for solver in solvers:
        cells.append((solver, *(f"{found[solver, count]:.2f}" for count in counts)))
    best = min((row for row in rows if row.evaluations), key=lambda r: r.distance)
    note = f"Columns are evaluations of the network; the floor is {floor:.2f}."
    result = (
        f"The least is {best.distance:.2f}, by {best.solver} in {best.evaluations} "
        f"evaluations, {best.distance / floor:.2f} times the floor."
    )
    return cells, note, result


def draw(rows, file):
    """Plot distance against evaluations, both in powers, as PNG."""
    if not installed("matplotlib"):
        raise ImportError('A plot needs matplotlib: pip install "generative-zoo[all]".')
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import matplotlib.ticker

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for solver in dict.fromkeys(row.solver for row in rows if row.evaluations):
        mine = [row for row in rows if row.solver == solver]
        x, y = zip(*((row.evaluations, row.distance) for row in mine))
        axes.plot(x, y, marker="o", label=solver)
    floor = next(row.distance for row in rows if row.solver == "floor")
    axes.axhline(floor, color="grey", linestyle="--", label="floor")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="evaluations of the network",
        ylabel=f"Fréchet distance, {JUDGE}",
        xticks=EVALUATIONS,
        xticklabels=EVALUATIONS,
    )
    axes.minorticks_off()
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)
