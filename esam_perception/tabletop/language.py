"""Phrases that are true and false of a scene, and which objects a true phrase names.

Truth is judged in the camera's view: left and right along the optical frame's x, in front of and behind along its z.
An object too small or too hidden to be told (`visible` false) makes no phrase true, and none that it would satisfy
is given out as false: such phrases are ambiguous and never drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from esam_perception.tabletop.words import ABSENT_NOUNS, CATEGORIES, COLOURS, RELATIONS

COLOUR_NAMES = tuple(COLOURS)
NAMED_TEMPLATES = ("the {}", "a {}", "{}", "find the {}", "where is the {}", "bring me the {}")
COLOUR_TEMPLATES = ("the {} thing", "something {}", "the {} object")
Item = TypeVar("Item")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Metres between two objects along an axis before a relation along it is said to hold.
RELATION_MARGIN = 0.06
# How false phrases are drawn: hard negatives (a word of the scene in it) far outnumber easy ones.
FALSE_KINDS = {
    "wrong_colour": 0.34,
    "wrong_category": 0.24,
    "absent_category": 0.10,
    "absent_colour": 0.04,
    "unknown_word": 0.08,
    "false_relation": 0.20,
}


@dataclass(frozen=True)
class TabletopObject:
    """One object of a scene. label: its value in the instance image. position: centre, metres, optical frame.

    pixels: visible area at the rendered size. visible: enough of it is seen to be named.
    """

    label: int
    category: str
    colour: str
    position: tuple[float, float, float]
    pixels: int
    visible: bool


@dataclass(frozen=True)
class Phrase:
    """A phrase about a scene. kind: what it names, or how it is false. labels: the objects a true phrase names."""

    text: str
    kind: str
    true: bool
    labels: tuple[int, ...]


def named(objects: Sequence[TabletopObject], colour: str | None, category: str | None) -> list[TabletopObject]:
    """The objects of that colour and category (None: any), seen or not."""
    return [o for o in objects if colour in (None, o.colour) and category in (None, o.category)]


def holds(relation: str, a: TabletopObject, b: TabletopObject) -> bool:
    """Whether `a` stands in `relation` to `b`, in the camera's view, by more than RELATION_MARGIN metres."""
    across, away = a.position[0] - b.position[0], a.position[2] - b.position[2]
    if relation == "left of":
        return across < -RELATION_MARGIN
    if relation == "right of":
        return across > RELATION_MARGIN
    if relation == "in front of":
        return away < -RELATION_MARGIN
    if relation == "behind":
        return away > RELATION_MARGIN
    raise ValueError(f"unknown relation {relation!r}: one of {RELATIONS}")


def _pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def true_phrase(
    objects: Sequence[TabletopObject], target: TabletopObject, kind: str, rng: np.random.Generator
) -> Phrase | None:
    """A phrase of `kind` that is true of `target`, or None where there is none that is unambiguous."""
    colour, category = target.colour, target.category
    if kind == "colour_category":
        text, meant = _pick(rng, NAMED_TEMPLATES).format(f"{colour} {category}"), named(objects, colour, category)
        if rng.random() < 0.1:
            text = f"the {category} that is {colour}"
    elif kind == "category":
        text, meant = _pick(rng, NAMED_TEMPLATES).format(category), named(objects, None, category)
    elif kind == "colour":
        text, meant = _pick(rng, COLOUR_TEMPLATES).format(colour), named(objects, colour, None)
    elif kind == "relation":
        pairs = [(r, o) for r in RELATIONS for o in objects if o is not target and o.visible and holds(r, target, o)]
        if not pairs:
            return None
        relation, anchor = _pick(rng, pairs)
        text = f"the {colour} {category} {relation} the {anchor.colour} {anchor.category}"
        anchors = named(objects, anchor.colour, anchor.category)
        meant = [
            o for o in named(objects, colour, category) if any(o is not a and holds(relation, o, a) for a in anchors)
        ]
    else:
        raise ValueError(f"unknown kind of phrase {kind!r}")
    if any(not o.visible for o in meant):
        return None
    return Phrase(text, kind, True, tuple(o.label for o in meant))


def false_phrase(objects: Sequence[TabletopObject], kind: str, rng: np.random.Generator) -> Phrase | None:
    """A phrase of `kind` (a key of FALSE_KINDS) that is false of the scene, or None where none can be made."""
    colours_here = sorted({o.colour for o in objects})
    categories_here = sorted({o.category for o in objects})
    colour, category = _pick(rng, COLOUR_NAMES), _pick(rng, CATEGORIES)
    if kind == "wrong_colour":
        category = _pick(rng, categories_here)
        # two thirds with a colour that something else here has: the two words must be bound together
        colour = _pick(rng, colours_here) if rng.random() < 0.67 else colour
    elif kind == "wrong_category":
        colour = _pick(rng, colours_here)
        if rng.random() < 0.3:
            category = _pick(rng, categories_here)
    elif kind == "absent_category":
        if named(objects, None, category):
            return None
        return Phrase(_pick(rng, NAMED_TEMPLATES).format(category), kind, False, ())
    elif kind == "absent_colour":
        if named(objects, colour, None):
            return None
        return Phrase(_pick(rng, COLOUR_TEMPLATES).format(colour), kind, False, ())
    elif kind == "unknown_word":
        noun = _pick(rng, ABSENT_NOUNS)
        if rng.random() < 0.3:
            noun = "".join(_pick(rng, LETTERS) for _ in range(int(rng.integers(3, 9))))
            if noun in CATEGORIES or noun in COLOURS:
                return None
        name = f"{_pick(rng, colours_here)} {noun}" if rng.random() < 0.6 else noun
        return Phrase(_pick(rng, NAMED_TEMPLATES).format(name), kind, False, ())
    elif kind == "false_relation":
        seen = [o for o in objects if o.visible]
        if len(seen) < 2:
            return None
        first, second = rng.choice(len(seen), 2, replace=False)
        a, b, relation = seen[first], seen[second], _pick(rng, RELATIONS)
        subjects, anchors = named(objects, a.colour, a.category), named(objects, b.colour, b.category)
        # the opposite must clearly hold for every pair: near the margin neither is plainly true
        opposite = RELATIONS[RELATIONS.index(relation) ^ 1]
        if not all(s is not t and holds(opposite, s, t) for s in subjects for t in anchors):
            return None
        text = f"the {a.colour} {a.category} {relation} the {b.colour} {b.category}"
        return Phrase(text, kind, False, ())
    else:
        raise ValueError(f"unknown kind of false phrase {kind!r}")
    if named(objects, colour, category):
        return None
    return Phrase(_pick(rng, NAMED_TEMPLATES).format(f"{colour} {category}"), kind, False, ())


def contradiction(objects: Sequence[TabletopObject], phrase: Phrase) -> Phrase | None:
    """A true relation with its opposite in its place, or None where that is not plainly false (or phrase no relation)."""
    for index, relation in enumerate(RELATIONS):
        one, found, other = phrase.text.partition(f" {relation} ")
        if not found:
            continue
        subjects, anchors = (named(objects, *words.split()[1:]) for words in (one, other))
        if all(s is not a and holds(relation, s, a) for s in subjects for a in anchors):
            return Phrase(f"{one} {RELATIONS[index ^ 1]} {other}", "false_relation", False, ())
    return None


def draw_false(
    objects: Sequence[TabletopObject],
    rng: np.random.Generator,
    shares: Mapping[str, float] = FALSE_KINDS,
    tries: int = 40,
) -> Phrase:
    """A false phrase with the kinds in `shares`. Raises ValueError where none can be made."""
    kinds, weights = list(shares), np.array(list(shares.values()))
    for _ in range(tries):
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        phrase = false_phrase(objects, kind, rng) if objects else None
        if phrase is not None:
            return phrase
    raise ValueError("no false phrase could be made of this scene")


def draw_true(
    objects: Sequence[TabletopObject], rng: np.random.Generator, shares: Mapping[str, float], tries: int = 40
) -> Phrase | None:
    """A true phrase with the kinds in `shares`, about a visible object; None where nothing is visible."""
    seen = [o for o in objects if o.visible]
    kinds, weights = list(shares), np.array(list(shares.values()))
    for _ in range(tries if seen else 0):
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        phrase = true_phrase(objects, _pick(rng, seen), kind, rng)
        if phrase is not None:
            return phrase
    return None


def scene_phrases(objects: Sequence[TabletopObject], rng: np.random.Generator) -> tuple[Phrase, ...]:
    """The phrases a scene is judged by: for each visible object one of every kind that can be made without
    ambiguity (no text twice), then as many false ones."""
    phrases: dict[str, Phrase] = {}
    for target in (o for o in objects if o.visible):
        for kind in ("colour_category", "category", "colour", "relation"):
            phrase = true_phrase(objects, target, kind, rng)
            same = [p for p in phrases.values() if phrase and p.kind == phrase.kind and p.labels == phrase.labels]
            if phrase is not None and not same:
                phrases[phrase.text] = phrase
    for _ in range(len(phrases)):
        phrase = draw_false(objects, rng)
        phrases.setdefault(phrase.text, phrase)
    return tuple(phrases.values())
