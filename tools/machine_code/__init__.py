"""Reads the machine code of a build's CUDA kernels, and predicts from it how near to the memory's limit they run."""
