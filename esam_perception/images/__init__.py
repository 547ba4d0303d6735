"""Pixels: message formats <-> arrays, image files, drawing. No torch, no ROS."""
