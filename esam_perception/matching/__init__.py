"""BLIP image-text matching: encodings, ITM, ITC, Grad-CAM. Knows nothing of masks."""
