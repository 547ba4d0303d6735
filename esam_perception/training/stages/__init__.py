"""What is trained, one stage a file."""
