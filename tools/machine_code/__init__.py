"""Reads the machine code of a build's CUDA kernels, and predicts their share of the peak bandwidth."""
