"""Separate texts that share windows of training, and conversations as such texts."""

import reprlib

import numpy as np

KINDS = None, "texts", "chats"
APART = -1  # Stands after a document in a window: what follows begins anew.
ROLES = "user", "assistant"


def packed(documents, length):
    """Return sequences as rows of one length, several in a row where they fit.

    None is cut that fits into a row (Ding et al., 2024, "Fewer truncations improve
    language modeling", https://arxiv.org/abs/2404.10830): the longest is placed first,
    each into the row that it fills best.

    Args:
        documents: Arrays (steps,) of whole numbers. Of one that is longer than a row,
            each part is placed by itself.
        length: Symbols of a row.

    Returns:
        (rows, length) int32, and -1 after each document up to the next or the end.
    """
    parts = [d[i : i + length] for d in documents for i in range(0, len(d), length)]
    parts.sort(key=len, reverse=True)
    rows, open_ = [], [[] for _ in range(length + 1)]  # Rows by the room they have.
    for part in parts:
        room = next((r for r in range(len(part) + 1, length + 1) if open_[r]), None)
        if room is None:
            rows.append(np.full(length, APART, "int32"))
            row, room = rows[-1], length
        else:
            row, room = open_[room].pop(), room - 1  # One place stays between two.
        start = length - room
        row[start : start + len(part)] = part
        open_[room - len(part)].append(row)
    return np.stack(rows) if rows else np.zeros((0, length), "int32")


def turns_of(conversation):
    """Return the turns of a conversation as texts of one line each, checked.

    Args:
        conversation: A text; a list of texts, of two speakers by turns; or a list of
            messages, dicts of "role", "user" and "assistant" by turns, and "content".

    Raises:
        ValueError: It is otherwise; the message says how.
    """
    turns = [conversation] if isinstance(conversation, str) else conversation
    rule = (
        "A conversation is a text, or a list of texts or of messages such as "
        "{'role': 'user', 'content': 'Hello'}, by turns of user and assistant; "
    )
    if not isinstance(turns, list | tuple) or not turns:
        raise ValueError(f"{rule}this is {reprlib.repr(conversation)}.")
    texts = []
    for i, turn in enumerate(turns):
        if isinstance(turn, dict):
            role, turn = turn.get("role"), turn.get("content")
            if role != ROLES[i % 2]:
                raise ValueError(f"{rule}turn {i + 1} has the role {role!r}.")
        text = " ".join(turn.split()) if isinstance(turn, str) else ""
        if not text:
            raise ValueError(f"{rule}turn {i + 1} is {reprlib.repr(turn)}.")
        texts.append(text)
    return texts


def as_text(turns):
    """Return a conversation as a model reads it: a turn a line."""
    return "".join(f"{turn}\n" for turn in turns)
