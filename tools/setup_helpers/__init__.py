"""Helpers of setup.py: find torch and a CUDA compiler, and run CMake."""
