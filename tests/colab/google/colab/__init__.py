"""Stands in for Colab's own module where the lessons are tried without Colab: this one name, nothing else of it."""
from . import output  # noqa: F401
