"""Restoration: training-free methods on every degradation (`methods`), and classical tools (`classical`)."""

from benchmarks.restoration.methods import run
from benchmarks.restoration.tools import compare_with_tools

__all__ = ["compare_with_tools", "run"]
