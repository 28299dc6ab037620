"""Errors put into a copy of Leeroy, each of which a named test must catch: `make mutants`."""
