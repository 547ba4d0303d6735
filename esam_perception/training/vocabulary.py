"""The WordPiece vocabulary of the tabletop profile: its words whole, everything else letter by letter.

Unknown words become runs of letters. The model meets many of them in phrases that are false, and so learns to answer
"not here" to words it was never taught, instead of guessing.
"""

import string

from esam_perception.tabletop.language import COLOUR_TEMPLATES, NAMED_TEMPLATES
from esam_perception.tabletop.words import CATEGORIES, COLOURS, RELATIONS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")


def tabletop_vocabulary() -> list[str]:
    """The entries of vocab.txt, in order."""
    sentences = (*NAMED_TEMPLATES, *COLOUR_TEMPLATES, *RELATIONS, "the that is an on of in")
    words = {word for sentence in sentences for word in sentence.split() if word != "{}"}
    words |= {*CATEGORIES, *COLOURS}
    characters = string.ascii_lowercase + string.digits + "-'/,"
    return [*SPECIAL, *characters, *(f"##{c}" for c in characters), *sorted(words - set(characters))]
