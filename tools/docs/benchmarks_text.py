"""The prose of docs/benchmarks.md, for benchmarks_page.py."""

HEAD = """# Benchmarks

<!-- Made by tools/docs/benchmarks_page.py from the results in benchmarks/; do not edit. -->

`pygan bench` times every op, forward and backward, and whole training steps against plain PyTorch. `--quick`
takes under a minute; `--help` lists the options.

Below: {where}. The machine was shared, so ratios mean more than times.

Everything that was measured: {files}.
"""
STEPS = """## Whole steps

A discriminator step and a generator step with Adam and instance noise. {where}; each sample of a time is as many
consecutive steps as take 40 ms, as in a training loop.
"""
ALL_STEPS = """Plain PyTorch computes binary_cross_entropy_with_logits and keeps no statistics, the others keep some.
"By hand" is a manual loop with pygan's functions. "vs. PyTorch" compares with plain PyTorch, "vs. manual loop" with the
loop by hand that has the same options; both are medians over the rounds in which all ways were timed. Ops and kernels
are counted by a dispatch mode, backward passes included; a kernel is a dispatched op that reads or writes elements: a
pass over memory on a CPU, a launch or more on a GPU. MFLOP counts the matrix products and convolutions: where the ways
differ in it, the ratio is the gain to expect from the arithmetic alone, without launches and passes over memory.
"""
OPS = """## Ops

Gains above 1 are in favor of pygan: of {rows} rows pygan is slower in {losing}. Geometric mean of the gains: {mean} ×.
"""
MAIN = """fp32, losses forward and backward, noise forward:
"""
ALL_OPS = """All {rows} rows, by op: other losses, sizes, bf16, evaluation.
"""
COLUMNS = """### Columns

* **work**: without gradients; with them, by `loss.backward()`; with them, by `*_loss_and_grad` and
  `LossAndGrad.backward`. With gradients every way begins with leaves, of which an op makes the logits (`view_as`, the
  least of all), and ends with the leaves' gradients.
* **gain**: how many times faster pygan is than the fastest other way. Below 1 it is slower. **†**: pygan's
  time spreads by more than {noisy} % ({marked} of {rows} rows), so the ratio is a rough one.
* **eager** is the fastest of the expressions in `pygan/bench/baselines.py`; **compiled** is `torch.compile` of it.
* **spread**: half the distance of the quartiles. Alternatives take turns in a random order, on buffers that take turns
  too, twice the largest cache where they are large; the rows of an op are measured three times, and the quietest of
  them counts. Each thread has a processor to itself (the command starts itself
  anew with `OMP_PROC_BIND=true` unless the environment says otherwise): left to the system, both threads of a pool
  shared one for the whole run in one process of six.
* **vs. reference**: the time as a multiple of the greatest of three reference times: what an op or a backward pass
  takes that does nothing (dispatch: a copy of one byte, the sum of two numbers and its `backward()`, or autograd's
  engine called from C++), what copying as many bytes takes as the op must read and write (copy), what drawing as many
  normals takes where nothing leaves the cache (normals). These are measured calls, not lower bounds: {below} of {rows}
  rows come out below 1, the least at {least}, most of them losses of one tensor, which need less of autograd than the
  sum of two.
* **memory**: what a call allocates at its peak, results included.
"""
SCALING = """## Time against size

`pygan bench --scaling`, fp32. A kernel without steps takes c + N / rate; the fit is of least relative error.
Each point is the quietest of three passes. With two threads the second one takes part from 16 Ki logits (8 Ki elements
of noise) on, and where a call's tensors outgrow the last cache (here between 1 and 4 Mi) two threads wait for memory
that one keeps up with: both bend the curve. Memory that was freed is kept meanwhile: by default glibc takes it from the
system anew for each tensor of 32 MiB and more, and what the system takes to hand out its pages is several times what
the op takes. If your tensors are as large, `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776` in the environment
keeps it as well.
"""
STATIC = """## CUDA kernels: predicted

{measured}

`python tools/predict_bandwidth.py` predicts from the machine code in the build which share of the memory's limit the
kernels reach at 16 Mi elements a tensor; [Kernels and numerics](kernels.md#how-near-to-the-memorys-limit) says how.
Bytes and instructions are an element's; instructions, registers and resident warps those on H100.
"""
NOT_MEASURED = "Not measured: these kernels have not been benchmarked on a GPU yet."
MEASURED = "What the same kernels reach on an H100 is in the section above."
