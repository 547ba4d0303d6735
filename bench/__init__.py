"""Measurements, side by side in one run; their committed tables are in bench/results."""
