"""``python -m pygan bench``: what the fused ops gain on this machine, and how they compare with reference calls.

`cases` says what is timed and against what (`baselines`), `timing` how, `limits` the reference times;
`steps` takes whole training steps, `scaling` the time against the size.
"""
