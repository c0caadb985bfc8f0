"""What a musician asks of chorales: known chords, no parallel fifths, clear voices."""

import numpy as np


def chords(rolls):
    """Return the chords of pieces: intervals above the lowest key, octaves apart.

    Args:
        rolls: List of (frames, 128) piano rolls.

    Returns:
        list of frozenset, one for each frame with 3 keys or more.
    """
    found = []
    for roll in rolls:
        for frame in np.asarray(roll, bool):
            keys = np.flatnonzero(frame)
            if len(keys) >= 3:
                found.append(frozenset(((keys - keys[0]) % 12).tolist()))
    return found


def unknown_chords(rolls, known):
    """Return the share of chords that are in none of the pieces `known`, in any key."""
    there, found = set(chords(known)), chords(rolls)
    return float(np.mean([chord not in there for chord in found])) if found else 0.0


def parallel_fifths(rolls):
    """Return the share of changes of chord in which two voices stay a fifth apart.

    Of neighbouring frames with the same number of keys, 3 or more, the keys in order
    are the voices; both must move, in the same direction. Twelfths count as fifths.
    """
    return _share(rolls, _parallel)


def voice_overlaps(rolls):
    """Return the share of changes of chord in which a voice passes where another was.

    A voice goes above the former key of the next higher one, or below that of the next
    lower. Voices that cross within a frame cannot be told from those that do not, since
    a piano roll holds keys alone: this is as much as it shows of crossing.
    """

    def passes(old, new):
        return bool((new[:-1] > old[1:]).any() or (new[1:] < old[:-1]).any())

    return _share(rolls, passes)


def _parallel(old, new):
    for low in range(len(old)):
        for high in range(low + 1, len(old)):
            fifth = (old[high] - old[low]) % 12 == 7 == (new[high] - new[low]) % 12
            if fifth and (new[low] - old[low]) * (new[high] - old[high]) > 0:
                return True
    return False


def _share(rolls, fault):
    found = []
    for roll in rolls:
        keys = [np.flatnonzero(frame) for frame in np.asarray(roll, bool)]
        for old, new in zip(keys, keys[1:]):
            if len(old) == len(new) >= 3 and (old != new).any():
                found.append(fault(old, new))
    return float(np.mean(found)) if found else 0.0
