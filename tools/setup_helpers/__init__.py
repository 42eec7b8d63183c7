"""What setup.py needs to know before CMake runs: which torch, which CUDA compiler, how to drive the build."""
