"""The WordPiece vocabulary of the tabletop profile: its words whole, everything else letter by letter.

Unknown words become runs of letters. The model meets many of them in phrases that are false, and so learns to answer
"not here" to words it was never taught, instead of guessing.
"""

import re
import string
from collections.abc import Iterable
from pathlib import Path

from esam_perception.matching.tokenizer import BlipTokenizer, normalise_text
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


def extend_vocabulary(vocab: Path, phrases: Iterable[str], output: Path) -> tuple[Path, list[str]]:
    """Write `vocab` with the words of the phrases that it can only spell letter by letter, or not at all, to `output`.

    Returns (output, the new words in the order of their ids). A BERT vocabulary, which has word pieces for everything,
    stays as it is.
    """
    tokenizer = BlipTokenizer(vocab, max_length=512)
    entries = vocab.read_text(encoding="utf-8").splitlines()
    known = set(entries)
    words = sorted({word for phrase in phrases for word in re.findall(r"[^\W_]+", normalise_text(phrase))})
    new = []
    for word in words:
        spelled = [entries[token] for token in tokenizer.tokens(word)[1:-1]]
        letters = all(len(piece.removeprefix("##")) == 1 for piece in spelled) and len(spelled) > 1
        if word not in known and (letters or "[UNK]" in spelled):
            new.append(word)
    if new and "[ENC]" not in known:
        # their ids come after the last entry: they must be written down before anything can follow them
        entries += ["[DEC]", "[ENC]"]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join([*entries, *new]) + "\n", encoding="utf-8")
    return output, new
