"""Byte-level byte-pair encoding, as GPT-2 has it, in plain Python.

Sennrich et al., 2016, https://arxiv.org/abs/1508.07909, over the bytes of UTF-8
(Radford et al., 2019, "Language models are unsupervised multitask learners", section
2.2): no text is out of the vocabulary. A text is cut into words, each with the space
before it; in a word, the pair that was merged first is merged first.
"""

import functools
import re
import unicodedata

import numpy as np

ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Over kinds of characters: letters, numbers, others, a space, and other spaces.
WORDS = re.compile(r" ?L+| ?N+| ?O+|[ s]+(?![^ s])|[ s]+")
MOST_MERGES = 200_000


def letters():
    """Return what stands for each byte in lists of merges: 256 printable letters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {
        **{byte: chr(byte) for byte in plain},
        **{byte: chr(256 + i) for i, byte in enumerate(rest)},
    }


class BytePairs:
    """A vocabulary of bytes and of what pairs of its members make.

    The numbers are those of GPT-2: first the 256 bytes, in the order of `letters()`,
    then a merge each.

    Args:
        merges: A pair a line, in the order of merging, its two parts with a space
            between; bytes are written as in `letters()`.

    Raises:
        ValueError: A line is no pair of what is known by then.
    """

    def __init__(self, merges):
        table = letters()
        self.byte_of = {letter: byte for byte, letter in table.items()}
        self.number = {letter: i for i, letter in enumerate(table.values())}
        self.ranks = {}
        lines = merges.split("\n") if isinstance(merges, str) and merges else []
        if not 1 <= len(lines) <= MOST_MERGES:
            raise ValueError(
                "merges is a text of a pair a line, such as 't h', with 1 to "
                f"{MOST_MERGES:,} lines."
            )
        for line in lines:
            pair = tuple(line.split(" "))
            whole = "".join(pair)
            known = len(pair) == 2 and all(part in self.number for part in pair)
            if not known or whole in self.number:
                raise ValueError(
                    f"merges has a line {line[:40]!r}, which is no new pair of two "
                    "bytes or of what lines above it made."
                )
            self.ranks[pair] = len(self.ranks)
            self.number[whole] = len(self.number)
        self.bytes = [bytes(self.byte_of[c] for c in name) for name in self.number]
        self._letters = [table[byte] for byte in range(256)]
        self._word = functools.lru_cache(maxsize=65_536)(self._merge)

    def __len__(self):
        return len(self.bytes)

    def encode(self, text, name="text"):
        """Return the numbers of a text, (length,) int32."""
        found = []
        for word in words(text):
            found += self._word(word)
        return np.array(found, "int32")

    def decode(self, numbers):
        """Return the text of numbers; bytes that make none show as such."""
        return self.bytes_of(numbers).decode("utf-8", "replace")

    def bytes_of(self, numbers):
        """Return the bytes that numbers stand for."""
        return b"".join([self.bytes[i] for i in np.ravel(numbers)])

    def _merge(self, word):
        """Return the numbers of a word: bytes, merged as long as a pair is known."""
        parts = [self._letters[byte] for byte in word.encode("utf-8", "replace")]
        far = len(self.ranks)
        while len(parts) > 1:
            pairs = list(zip(parts, parts[1:]))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, far))
            if best not in self.ranks:
                break
            merged, i = [], 0
            while i < len(parts):
                if i < len(pairs) and pairs[i] == best:
                    merged.append("".join(best))
                    i += 2
                else:
                    merged.append(parts[i])
                    i += 1
            parts = merged
        return [self.number[part] for part in parts]


@functools.lru_cache(maxsize=4096)
def _kind(character):
    if character == " ":
        return " "
    if character.isspace():
        return "s"
    kind = unicodedata.category(character)[0]
    return kind if kind in "LN" else "O"


def words(text):
    """Yield the words of a text: letters, digits or signs, with the space before."""
    kinds, at = "".join(map(_kind, text)), 0
    while at < len(text):
        if text[at] == "'":
            ending = next((e for e in ENDINGS if text.startswith(e, at)), None)
            if ending:
                yield ending
                at += len(ending)
                continue
        end = WORDS.match(kinds, at).end()
        yield text[at:end]
        at = end
