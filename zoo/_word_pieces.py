"""WordPiece, as BERT has it, in plain Python.

Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 4.1; words are cut as by
Devlin et al., 2019, https://arxiv.org/abs/1810.04805: at spaces and at signs, without
case if so wished. A word is the longest pieces that it begins with, one after another;
a piece within a word begins with ##. Accents stay, as in keras-hub.
"""

import functools
import re
import unicodedata

import numpy as np

SPECIAL = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MOST_PIECES = 200_000
LONGEST_WORD = 100  # Letters; a longer one is unknown.
CLOSE = re.compile(
    r" (?=[,.;:!?')\]])"
)  # Before these, no space when it is put together.
CHINESE = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


class WordPieces:
    """A vocabulary of words and parts of words.

    Args:
        pieces: One a line, in the order of their numbers; with [PAD], [UNK], [CLS],
            [SEP] and [MASK] among them.
        lower: Whether case is taken off.

    Raises:
        ValueError: A piece is missing, empty or there twice.
    """

    def __init__(self, pieces, lower=True):
        lines = pieces.split("\n") if isinstance(pieces, str) else []
        self.number = {piece: i for i, piece in enumerate(lines)}
        missing = [piece for piece in SPECIAL if piece not in self.number]
        whole = len(self.number) == len(lines) and "" not in self.number
        if missing or not whole or len(lines) > MOST_PIECES:
            raise ValueError(
                f"pieces is a text of at most {MOST_PIECES:,} lines, a piece each, "
                f"none empty or twice, among them {', '.join(SPECIAL)}; here "
                f"{', '.join(missing) or 'one'} is missing, empty or twice."
            )
        self.pieces, self.lower = lines, lower
        self.pad, self.unknown, self.first, self.last, self.mask = (
            self.number[piece] for piece in SPECIAL
        )
        self.special = [self.number[piece] for piece in SPECIAL]
        self._parts = functools.lru_cache(maxsize=65_536)(self._cut)

    def __len__(self):
        return len(self.pieces)

    def encode(self, text, name="text"):
        """Return the numbers of a text, (length,) int32."""
        found = []
        for part in re.split(r"(\[[A-Z]+\])", text):
            if part in SPECIAL:
                found.append(self.number[part])
                continue
            for word in words(part, self.lower):
                found += self._parts(word)
        return np.array(found, "int32")

    def decode(self, numbers):
        """Return the text of numbers, with spaces between words."""
        joined = " ".join(self.pieces[i] for i in np.ravel(numbers))
        return CLOSE.sub("", joined.replace(" ##", ""))

    def _cut(self, word):
        """Return the numbers of the pieces of a word."""
        found, start = [], 0
        if len(word) > LONGEST_WORD:
            return [self.unknown]
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if (number := self.number.get(prefix + word[start:end])) is not None:
                    found.append(number)
                    break
            else:
                return [self.unknown]
            start = end
        return found


def words(text, lower=True):
    """Return the words and signs of a text."""
    text = "".join(map(_clean, text))
    if lower:
        text = text.lower()
    return "".join(f" {c} " if _sign(c) else c for c in text).split()


@functools.lru_cache(maxsize=4096)
def _clean(character):
    if character.isspace():
        return " "
    hidden = character == "\ufffd" or unicodedata.category(character)[0] == "C"
    return "" if hidden else character


@functools.lru_cache(maxsize=4096)
def _sign(character):
    """Whether it is a word by itself: a sign of ASCII, punctuation, Chinese."""
    point = ord(character)
    ascii_ = 33 <= point <= 126 and not character.isalnum()
    chinese = any(low <= point <= high for low, high in CHINESE)
    return ascii_ or chinese or unicodedata.category(character)[0] == "P"
