"""Staged networks, weights and teachers, taps, and cutting any network into stages."""
