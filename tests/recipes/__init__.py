"""Every example pipeline, from its shipped file, from a push to its target."""
