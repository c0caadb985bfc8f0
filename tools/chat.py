"""Talk with a preset of conversations: a line is a turn; an empty one ends it.

zoo train --preset gpt-chat --out runs/chat        makes one, in minutes
zoo chat runs/chat --temperature 0.5 --seed 3
echo "What is your name?" | zoo chat runs/chat
"""

import sys

from absl import app, flags

import zoo

_SEED = flags.DEFINE_integer("seed", None, "The same seed gives the same answers.")
_LENGTH = flags.DEFINE_integer("length", 100, "Most symbols of an answer.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Below 1 plainer; 0 likeliest.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("zoo chat takes one preset: zoo chat runs/chat.")
    model, turns = zoo.load(argv[1]), []
    if "chat" not in model.verbs():
        raise AttributeError(model._no_verb("chat"))
    shown = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            said = input(shown).strip()
        except EOFError:
            said = ""
        if not said:
            return
        turns.append(said)
        answer = model.chat(
            turns,
            length=_LENGTH.value,
            seed=None if _SEED.value is None else _SEED.value + len(turns),
            temperature=_TEMPERATURE.value,
        )
        print(answer, flush=True)
        turns.append(answer or "…")
