"""Pictures for people: masks, contours, scores and heatmaps over an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from esam_perception.pipeline.fusion import native_heatmap
from esam_perception.types import Match, Verdict

# Told apart by eye on most images, in the order of the queries (RGB).
PALETTE = (
    (230, 60, 60),
    (60, 160, 255),
    (70, 200, 90),
    (255, 190, 40),
    (200, 90, 230),
    (40, 210, 210),
    (255, 120, 190),
    (150, 150, 70),
)
VERDICT_COLOURS = {Verdict.MATCH: (70, 200, 90), Verdict.UNSURE: (255, 190, 40), Verdict.NO_MATCH: (200, 200, 200)}
VERDICT_NAMES = {Verdict.MATCH: "MATCH", Verdict.UNSURE: "UNSURE", Verdict.NO_MATCH: "NO_MATCH"}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def put_text(
    image: np.ndarray, text: str, position: tuple[int, int], colour: tuple[int, int, int], scale: float = 0.5
) -> None:
    """Draw readable text in place; OpenCV's fonts know ASCII only, other characters become `?`."""
    text = text.encode("ascii", "replace").decode()
    cv2.putText(image, text, position, _FONT, scale, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, position, _FONT, scale, colour, 1, cv2.LINE_AA)


def draw_matches(image: np.ndarray, matches: Sequence[Match], captions: bool = True) -> np.ndarray:
    """A copy of the image, uint8 [H, W, 3] RGB, with every segment tinted and outlined; with `captions`, its name beside
    it, and a line of text a query."""
    canvas: np.ndarray = image.copy()
    scale = max(0.4, image.shape[0] / 960)
    for i, match in enumerate(matches):
        colour = PALETTE[i % len(PALETTE)]
        for segment in match.segments:
            tinted = canvas[segment.mask].astype(np.float32) * 0.55 + np.array(colour, np.float32) * 0.45
            canvas[segment.mask] = tinted.astype(np.uint8)
            contours, _ = cv2.findContours(segment.mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, contours, -1, colour, max(1, round(scale * 2)))
            x, y, _, _ = segment.box
            if captions:
                put_text(canvas, match.query.text[:40], (x, max(12, y - 5)), colour, scale)
    for i, match in enumerate(matches if captions else ()):
        line = f"{match.query.text[:48]}: {VERDICT_NAMES[match.verdict]} {match.itm_score:.2f}"
        put_text(canvas, line, (6, round((i + 1) * 34 * scale)), VERDICT_COLOURS[match.verdict], scale)
    return canvas


def draw_labels(labels: np.ndarray, matches: Sequence[Match]) -> np.ndarray:
    """A label image (uint8 [H, W], values Segment.label, 0 nothing) for the eye, uint8 [H, W, 3] RGB: the colour of each
    label's query, as in `draw_matches`; black where there is nothing, and where two segments touch."""
    colours = np.zeros((256, 3), np.uint8)
    for i, match in enumerate(matches):
        for segment in match.segments:
            colours[segment.label] = PALETTE[i % len(PALETTE)]
    below, right = labels[:-1] != labels[1:], labels[:, :-1] != labels[:, 1:]
    apart = labels.copy()
    apart[:-1][below & (labels[1:] > 0)] = 0
    apart[:, :-1][right & (labels[:, 1:] > 0)] = 0
    shown: np.ndarray = colours[apart]
    return shown


def draw_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """The image with a heatmap (float32 in 0..1, any grid) over it, uint8 [H, W, 3] RGB."""
    wide = native_heatmap(heatmap, None, 1.0, *image.shape[:2])
    coloured = cv2.applyColorMap((wide * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return cv2.addWeighted(image, 0.5, np.ascontiguousarray(coloured), 0.5, 0)


def _tile(picture: np.ndarray, width: int, caption: str, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    put_text(small, caption, (6, size[1] - 8), colour, 0.45)
    return small


def case_row(image: np.ndarray, match: Match, caption: str, width: int = 320) -> np.ndarray:
    """What was found for one query, four tiles of `width` pixels in a row: where, heatmap, verdict, mask. uint8 RGB."""
    mask = np.zeros_like(image)
    for segment in match.segments:
        mask[segment.mask] = 255
    iou = f"predicted IoU {match.segments[0].predicted_iou:.2f}" if match.segments else "no segment"
    verdict = f"{VERDICT_NAMES[match.verdict]} {match.itm_score:.2f}"
    seen = image.copy()
    cv2.drawMarker(seen, (round(match.peak[0]), round(match.peak[1])), (255, 255, 255), cv2.MARKER_CROSS, 18, 2)
    tiles = [
        _tile(seen, width, caption),
        _tile(draw_heatmap(image, match.heatmap), width, "fused heatmap"),
        _tile(draw_matches(image, [match], captions=False), width, verdict, VERDICT_COLOURS[match.verdict]),
        _tile(mask, width, iou),
    ]
    return np.concatenate(tiles, axis=1)


def contact_sheet(image: np.ndarray, matches: Sequence[Match], width: int = 320) -> np.ndarray:
    """One picture of it all: the image and all its masks large, then a row a query (see `case_row`).

    uint8 RGB, four columns of `width` pixels.
    """
    head = [_tile(image, 2 * width, "image"), _tile(draw_matches(image, matches), 2 * width, "all queries")]
    rows = [case_row(image, match, match.query.text[:40], width) for match in matches]
    return np.concatenate([np.concatenate(head, axis=1), *rows])
