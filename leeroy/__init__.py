"""Leeroy: a build and deploy server whose every build is a persisted state machine."""

__version__ = "0.1.0"
