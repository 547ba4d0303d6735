"""Named models: their files, the registry, weights on disk, fetching; models/ holds the bundled data."""
