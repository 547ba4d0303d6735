"""The only place that imports ROS."""
