"""Figures: judging, evaluation, calibration."""
