"""Scenes and labelled images -> batches."""
