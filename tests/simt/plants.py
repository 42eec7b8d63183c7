"""Bugs planted in copies of the real kernels, to prove that the emulator finds them.

All bugs are in one copy, each behind a run-time switch (planted/bug.h), so that it is compiled once per build instead
of once per bug; with the switch at 0, the copy behaves like the original.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from .toolchain import CSRC


@dataclasses.dataclass(frozen=True)
class Patch:
    """Replaces the only occurrence of `snippet`. In the replacement, BUG(name) is true while that bug is active."""

    file: str
    snippet: str
    replacement: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The program and build that must report a bug, and the required part of the message."""

    program: str
    mode: str
    messages: tuple[str, ...]


REDUCE, LOSS, NOISE = "cuda/reduce.cuh", "cuda/loss_tiles.cuh", "cuda/noise_kernels.cuh"
FEATURES = "cuda/features_kernels.cuh"

PATCHES = [
    Patch(
        REDUCE,
        ": blockIdx.x + gridDim.x - first_block;",
        ": blockIdx.x + (BUG(blocks_not_in_turn) ? 0 : gridDim.x - first_block);",
    ),
    Patch(
        REDUCE,
        "const double sum = warp_sum(value[k]);",
        "const double sum = BUG(shuffle_in_branch) && value[k] == 0 ? 0 : warp_sum(value[k]);",
    ),
    Patch(
        REDUCE,
        "if (lane == 0) scratch[warp * N + k] = sum;",
        "if (lane == 0 && !(BUG(shared_uninitialized) && sum == 0)) scratch[warp * N + k] = sum;",
    ),
    Patch(
        REDUCE,
        "  __syncthreads();\n  if (threadIdx.x < N) {",
        "  if (!BUG(barrier_missing)) __syncthreads();\n  if (threadIdx.x < N) {",
    ),
    Patch(
        REDUCE,
        "is read and written by this thread alone\n  }\n  __syncthreads();",
        "\n    if (BUG(barrier_in_branch)) __syncthreads();\n  }\n"
        "  if (!BUG(barrier_in_branch)) __syncthreads();",
    ),
    Patch(
        REDUCE,
        "  __threadfence();  // what came before",
        "  if (!BUG(fence_missing)) __threadfence();  // what came before",
    ),
    Patch(
        REDUCE,
        "if (last) __threadfence();",
        "if (last && !BUG(reader_fence_missing)) __threadfence();",
    ),
    Patch(
        REDUCE,
        "  __syncthreads();\n  if (threadIdx.x == 0) *flag = arrives_last(slot);\n  __syncthreads();",
        "  if (!BUG(count_barrier_missing)) __syncthreads();\n"
        "  if (threadIdx.x == 0) *flag = arrives_last(slot);\n"
        "  if (!BUG(flag_barrier_missing)) __syncthreads();",
    ),
    Patch(
        REDUCE,
        "last = atomicInc(&slots[slot], gridDim.x - 1) ==",
        "last = (BUG(counter_not_reset) ? atomicAdd(&slots[slot], 1)"
        " : atomicInc(&slots[slot], gridDim.x - 1)) ==",
    ),
    Patch(
        LOSS,
        "const int64_t end = first + kTile < piece.n ? first + kTile : piece.n;",
        "const int64_t last = piece.n + (BUG(loss_tail_out_of_bounds) ? 1 : 0);\n"
        "    const int64_t end = first + kTile < last ? first + kTile : last;",
    ),
    Patch(
        LOSS,
        "if (is_aligned && end - first == kTile) {",
        "if (is_aligned && (end - first == kTile || BUG(loss_tail_guard_missing))) {",
    ),
    Patch(
        LOSS,
        "k < i + kVector && k < end;",
        "k < i + kVector && (k < end || BUG(loss_logit_guard_missing));",
    ),
    Patch(
        LOSS,
        "aligned<T, kVector>(logits) && aligned<T, kVector>(other) &&",
        "(BUG(loss_misaligned) || aligned<T, kVector>(logits)) &&"
        " (BUG(loss_other_misaligned) || aligned<T, kVector>(other)) &&",
    ),
    Patch(
        LOSS,
        "(aligned<Stored, kVector>(out) && aligned<Stored, kVector>(other_out))",
        "((BUG(loss_store_misaligned) || aligned<Stored, kVector>(out)) &&"
        " (BUG(loss_other_store_misaligned) || aligned<Stored, kVector>(other_out)))",
    ),
    Patch(
        LOSS,
        "const int64_t first = tile * kTile;",
        "const int64_t first ="
        " BUG(loss_index_overflow) ? static_cast<int>(tile) * kTile : tile * kTile;",
    ),
    Patch(
        FEATURES,
        "const int64_t end = first + kFeatureTile < n ? first + kFeatureTile : n;",
        "const int64_t last = n + (BUG(features_tail_out_of_bounds) ? 1 : 0);\n"
        "  const int64_t end = first + kFeatureTile < last ? first + kFeatureTile : last;",
    ),
    Patch(
        FEATURES,
        "if (is_aligned && end - first == kFeatureTile) {",
        "if (is_aligned && (end - first == kFeatureTile || BUG(features_tail_guard_missing))) {",
    ),
    Patch(
        FEATURES,
        "aligned<T, kVector>(fake) && aligned<T, kVector>(real) && aligned<int8_t, kVector>(signs);",
        "(BUG(features_misaligned) || (aligned<T, kVector>(fake) && aligned<T, kVector>(real))) &&\n"
        "    (BUG(features_signs_misaligned) || aligned<int8_t, kVector>(signs));",
    ),
    Patch(
        FEATURES,
        "        aligned<T, kVector>(out) &&\n",
        "        (BUG(features_store_misaligned) || aligned<T, kVector>(out)) &&\n",
    ),
    Patch(
        FEATURES,
        "    __syncthreads();  // before the next map",
        "    if (!BUG(features_barrier_missing)) __syncthreads();  // before the next map",
    ),
    Patch(
        FEATURES,
        "if (out.left != 0) return;\n  __syncthreads();",
        "if (out.left != 0) return;\n  if (!BUG(features_total_barrier_missing)) __syncthreads();",
    ),
    Patch(
        NOISE,
        "const int64_t end = piece.n + skipped;",
        "const int64_t end = piece.n + skipped + (BUG(noise_tail_out_of_bounds) ? 1 : 0);",
    ),
    Patch(
        NOISE,
        "if (i + k < skipped || i + k >= end) continue;",
        "if ((i + k < skipped && !BUG(noise_head_guard_missing)) ||"
        " (i + k >= end && !BUG(noise_tail_guard_missing))) continue;",
    ),
    Patch(
        NOISE,
        "first_whole = skipped > 0 ? kTile : 0;",
        "first_whole = skipped > 0 && !BUG(noise_first_tile_guard_missing) ? kTile : 0;",
    ),
    Patch(
        NOISE,
        "end_whole = is_aligned ? end - kTile + 1 : 0;",
        "end_whole = is_aligned ? (BUG(noise_last_tile_guard_missing) ? end : end - kTile + 1) : 0;",
    ),
    Patch(
        NOISE,
        "const bool is_aligned = aligned<In, G>(x) && aligned<Out, G>(out);",
        "const bool is_aligned = (BUG(noise_misaligned) || aligned<In, G>(x)) &&"
        " (BUG(noise_store_misaligned) || aligned<Out, G>(out));",
    ),
    Patch(
        NOISE,
        "for (; tile < end_whole; tile += stride) {",
        "for (; tile < end_whole; tile = BUG(noise_index_overflow)"
        " ? static_cast<int>(tile) + static_cast<int>(stride) : tile + stride) {",
    ),
    Patch(
        NOISE,
        "uniform = uniform && first + G <= (sample[u] + 1) * piece.sample_size.value;",
        "uniform = uniform && (BUG(noise_sigma_of_another_sample) ||"
        " first + G <= (sample[u] + 1) * piece.sample_size.value);",
    ),
    Patch(
        NOISE,
        "load_factor<M>(a.options.scale, piece.first_sample + sample[u]);",
        "load_factor<M>(a.options.scale,"
        " piece.first_sample + sample[BUG(noise_scale_of_another_group) ? 0 : u]);",
    ),
    Patch(
        NOISE,
        "const uint64_t step = state_step + piece.step;",
        "const uint64_t step = state_step + a.pieces[BUG(noise_step_of_another_piece) ? 0 : p].step;",
    ),
    Patch(
        NOISE,
        "threadIdx.x == 0 && arrives_last(a.slot)",
        "threadIdx.x == 0 && (arrives_last(a.slot) || BUG(step_advanced_early))",
    ),
    Patch(
        NOISE,
        "if (a.advance != nullptr) {\n    __syncthreads();",
        "if (a.advance != nullptr) {\n    if (!BUG(step_barrier_missing)) __syncthreads();",
    ),
]

RACE = "ThreadSanitizer: data race"
POISON = "the poison of uninitialized shared memory"


def _asan(program: str, file: str) -> Report:
    return Report(program, "asan", ("AddressSanitizer: use-after-poison", file))


# A whole tile extends far beyond the poisoned margins, and noise reads the sigmas first.
LOSS_ASAN = Report("loss", "asan", ("ERROR: AddressSanitizer: ", "vector.cuh"))
NOISE_ASAN = Report("noise", "asan", ("ERROR: AddressSanitizer: ", "cuda/noise_kernels.cuh"))

REPORTS: dict[str, list[Report]] = {
    "loss_tail_out_of_bounds": [_asan("loss", "loss_tiles.cuh")],
    "noise_tail_out_of_bounds": [NOISE_ASAN],
    "loss_tail_guard_missing": [LOSS_ASAN],
    "loss_logit_guard_missing": [_asan("loss", "loss_tiles.cuh")],
    "noise_head_guard_missing": [NOISE_ASAN],
    "noise_tail_guard_missing": [NOISE_ASAN],
    "noise_first_tile_guard_missing": [
        Report("noise", "asan", ("signed integer overflow", "cuda/noise_kernels.cuh"))
    ],
    "noise_last_tile_guard_missing": [NOISE_ASAN],
    "blocks_not_in_turn": [
        Report("loss", "plain", ("loss: wrong result",)),
        Report("features", "plain", ("features: wrong",)),
        Report("noise", "plain", ("noise: wrong element",)),
    ],
    "barrier_missing": [
        Report("loss", "tsan", (RACE, "reduce.cuh")),
        Report("loss", "plain", (POISON,)),
    ],
    # The race is on the flag, or on the sums of a thread that mistook the flag for another's.
    "flag_barrier_missing": [Report("loss", "tsan", (RACE, "gan_loss_sums_kernel"))],
    "fence_missing": [
        Report("loss", "tsan", (RACE, "loss_sums_kernels.cuh")),
        Report("noise", "tsan", (RACE, "cuda/noise_kernels.cuh")),
    ],
    "count_barrier_missing": [Report("loss", "tsan", (RACE, "loss_sums_kernels.cuh"))],
    "reader_fence_missing": [Report("loss", "tsan", (RACE, "loss_sums_kernels.cuh"))],
    "counter_not_reset": [Report("loss", "plain", ("loss: wrong result",))],
    "step_advanced_early": [Report("noise", "tsan", (RACE, "cuda/noise_kernels.cuh"))],
    "step_barrier_missing": [Report("noise", "plain", ("noise: wrong element",))],
    "barrier_in_branch": [Report("loss", "plain", ("divergent barrier", "reduce.cuh"))],
    "shuffle_in_branch": [Report("loss", "plain", ("divergent warp operation", "reduce.cuh"))],
    "shared_uninitialized": [Report("loss", "plain", (POISON,))],
    "loss_misaligned": [Report("loss", "asan", ("misaligned address", "vector.cuh"))],
    "loss_other_misaligned": [Report("loss", "asan", ("misaligned address", "vector.cuh"))],
    "loss_store_misaligned": [Report("loss", "asan", ("misaligned address", "vector.cuh"))],
    "loss_other_store_misaligned": [Report("loss", "asan", ("misaligned address", "vector.cuh"))],
    "features_tail_out_of_bounds": [_asan("features", "features_kernels.cuh")],
    "features_tail_guard_missing": [Report("features", "asan", ("ERROR: AddressSanitizer: ",))],
    "features_misaligned": [Report("features", "asan", ("misaligned address", "vector.cuh"))],
    "features_signs_misaligned": [Report("features", "asan", ("misaligned address", "vector.cuh"))],
    "features_store_misaligned": [Report("features", "asan", ("misaligned address", "vector.cuh"))],
    "features_barrier_missing": [Report("features", "tsan", (RACE,))],
    "features_total_barrier_missing": [Report("features", "tsan", (RACE, "features_kernels.cuh"))],
    "noise_misaligned": [Report("noise", "asan", ("misaligned address", "vector.cuh"))],
    "noise_store_misaligned": [Report("noise", "asan", ("misaligned address", "vector.cuh"))],
    "noise_sigma_of_another_sample": [Report("noise", "plain", ("noise: wrong element",))],
    "noise_scale_of_another_group": [Report("noise", "plain", ("noise: wrong element",))],
    "noise_step_of_another_piece": [Report("noise", "plain", ("noise: wrong element",))],
    "loss_index_overflow": [Report("loss", "asan", ("signed integer overflow", "loss_tiles.cuh"))],
    "noise_index_overflow": [
        Report("noise", "asan", ("signed integer overflow", "cuda/noise_kernels.cuh"))
    ],
}

BUGS = ["none", *REPORTS]


def patched_kernels(folder: Path) -> Path:
    """Write the patched copies; returns the folder to search before csrc/.

    A snippet that does not occur exactly once is an error, so that after a change of a kernel its bug must be planted
    again, instead of silently disappearing.
    """
    for file in sorted({patch.file for patch in PATCHES}):
        text = (CSRC / file).read_text()
        for patch in PATCHES:
            if patch.file != file:
                continue
            found = text.count(patch.snippet)
            assert found == 1, f"{file} has {found} occurrences of the snippet\n{patch.snippet}"
            replacement = re.sub(
                r"BUG\((\w+)\)",
                lambda bug: f"(planted_bug == {BUGS.index(bug[1])})",
                patch.replacement,
            )
            text = text.replace(patch.snippet, replacement)
        copy = folder / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    return folder
