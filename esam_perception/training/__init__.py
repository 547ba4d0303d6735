"""Training and measuring of the bundled profile. Imports the core, never the other way."""
