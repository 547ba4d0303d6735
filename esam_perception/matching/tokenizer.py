"""Phrases to WordPiece ids as BLIP takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from esam_perception.errors import InvalidQuery

MAX_WORDS = 50
_PUNCTUATION = re.compile(r"[.!\"()*#:;~]")


def normalise_text(text: str) -> str:
    """LAVIS' BlipCaptionProcessor: lower case, some punctuation to blanks, blanks squeezed, at most 50 words."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split()[:MAX_WORDS])


@dataclass(frozen=True)
class Word:
    """A word of a text and the tokens that spell it: positions `first` up to, not including, `stop`."""

    text: str
    first: int
    stop: int


class BlipTokenizer:
    """WordPiece with BLIP's first tokens: [CLS] for ITC, [ENC] for ITM.

    vocab: a BERT vocab.txt, one entry a line; [ENC] may be missing from it (bert-base-uncased): it is then the second
    entry after the last ([DEC] is the first). max_length: in tokens, first and last included; longer texts are cut.
    """

    def __init__(self, vocab: str | Path, max_length: int = 35) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=True)
        self._tokenizer.enable_truncation(max_length)
        size = self._tokenizer.get_vocab_size()
        enc = self._tokenizer.token_to_id("[ENC]")
        self.enc_token_id = size + 1 if enc is None else enc
        self.vocab_size = size + 2 if enc is None else size
        self._pad = self._tokenizer.token_to_id("[PAD]")

    def tokens(self, text: str) -> list[int]:
        """Ids of one text, [CLS] first. Raises InvalidQuery for a text of which nothing is left to look for: Grad-CAM
        averages over the text's own tokens and would divide by 0."""
        ids: list[int] = self._tokenizer.encode(normalise_text(text)).ids
        if len(ids) <= 2:
            raise InvalidQuery(f"the query {text!r} has no words to look for")
        return ids

    def words(self, text: str) -> list[Word]:
        """The words (and lone punctuation) of a text that fit into max_length, in order. Raises InvalidQuery as `tokens`."""
        self.tokens(text)
        normalised = normalise_text(text)
        encoded = self._tokenizer.encode(normalised)
        words: list[Word] = []
        for position, (index, span) in enumerate(zip(encoded.word_ids, encoded.offsets)):
            if index is None:  # [CLS], [SEP]
                continue
            if index == len(words):
                words.append(Word(normalised[slice(*span)], position, position + 1))
            else:
                word = words[-1]
                words[-1] = Word(word.text + normalised[slice(*span)], word.first, position + 1)
        return words

    def encode_for_itc(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids int64 [N, L] with [CLS] first, and their mask int64 [N, L]; L is the longest text's."""
        encoded = [self.tokens(text) for text in texts]
        length = max(map(len, encoded))
        ids = torch.tensor([row + [self._pad] * (length - len(row)) for row in encoded])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in encoded])
        return ids, mask

    def encode_for_itm(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `encode_for_itc`, with [ENC] first."""
        ids, mask = self.encode_for_itc(texts)
        ids[:, 0] = self.enc_token_id
        return ids, mask
