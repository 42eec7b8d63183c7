"""``python -m pygan bench``: the speedup of the fused ops on this machine, and their time relative to reference calls.

`cases` defines what is timed and `baselines` what it is compared with; `timing` measures, `limits` measures the
reference times; `steps` times whole training steps, `scaling` the time as a function of the size.
"""
