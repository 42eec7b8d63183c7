"""Benchmarks, and predictions from the machine code."""
