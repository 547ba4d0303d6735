"""The ROS layer: adapts messages, owns threads and time. Nothing imports it but the executables and the demo."""
