"""``python -m pygan bench``: what the fused ops gain on this machine, and how far they are from its limits.

`cases` says what is timed and against what (`rivals`), `timing` how, `limits` what the machine could do at best;
`steps` takes whole training steps, `scaling` the time against the size, `static` the CUDA kernels' machine code.
"""
