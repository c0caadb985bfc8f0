"""zoo: one program, one verb a file.

zoo list                                presets, as a table
zoo info vae-mnist                      what a preset is and can do
zoo generate vae-mnist                  samples, as a picture
zoo translate pix2pix-emoji DRAWINGS    pictures into pictures
zoo train --preset vae-mnist --out runs/mine
zoo evaluate vae-mnist                  measure a preset on the test set
zoo verify vae-mnist                    recompute every number on its card
zoo chat runs/chat                      talk, a line a turn
zoo export vae-mnist --format litert --out vae
zoo run vae                             samples of an export, without Keras
zoo benchmark vae                       speed, beside a peer
"""

import importlib
import os
import sys

VERBS = {
    "list": "zoo.tools.list",
    "info": "zoo.tools.info",
    "generate": "zoo.tools.generate",
    "translate": "zoo.tools.translate",
    "chat": "zoo.tools.chat",
    "train": "zoo.trainers.train",
    "evaluate": "zoo.tools.evaluate",
    "verify": "zoo.tools.verify",
    "export": "zoo.tools.export",
    "run": "zoo.tools.run",
    "benchmark": "zoo.tools.benchmark",
}


def run():
    """Run `zoo VERB …`: import that verb's module, whose flags and main it is."""
    if len(sys.argv) < 2 or sys.argv[1] not in VERBS:
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        helped = asked in ("", "help", "-h", "--help")
        if not helped:
            has = ", ".join(VERBS)
            print(f"zoo has no verb {asked!r}; it has {has}.\n", file=sys.stderr)
        print(__doc__.strip(), file=sys.stdout if helped else sys.stderr)
        sys.exit(0 if helped else 2)
    verb = sys.argv.pop(1)
    sys.argv[0] = f"zoo {verb}"
    if not os.environ.get("ZOO_DEBUG"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("ZOO_QUIET", "1")
    if verb in ("train", "evaluate", "verify"):  # They start Keras in any case.
        importlib.import_module("zoo._backend")
    module = importlib.import_module(VERBS[verb])
    from absl import app, logging

    logging.set_verbosity(logging.ERROR)  # What libraries tell their authors.

    def main(argv):
        try:
            return module.main(argv)
        except app.UsageError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            ImportError,
            OSError,
            ValueError,
        ) as error:
            if os.environ.get("ZOO_DEBUG"):
                raise
            print(f"zoo {verb}: {error}", file=sys.stderr)
            return 1

    app.run(main)


if __name__ == "__main__":
    run()
