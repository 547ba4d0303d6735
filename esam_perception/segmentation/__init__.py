"""EfficientSAM: masks from points and boxes. Knows nothing of text."""

from esam_perception.segmentation.efficient_sam import EfficientSam, EfficientSamConfig, check_prompt, upsample_mask

__all__ = ["EfficientSam", "EfficientSamConfig", "check_prompt", "upsample_mask"]
