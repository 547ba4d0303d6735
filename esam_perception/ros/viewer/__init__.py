"""Nodes that listen to `esam` on behalf of a person."""
