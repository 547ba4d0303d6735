"""Bags in, matches out, without ROS: query files, replay, summaries."""
