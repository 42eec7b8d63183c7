"""Predicts the share of the peak bandwidth that this build's CUDA kernels reach, from their machine code.

    python tools/predict_bandwidth.py
    python tools/predict_bandwidth.py --out benchmarks/DATE-BACKEND      # static.json and static.csv there

Needs a build with CUDA, cuobjdump and nvdisasm, but no GPU. docs/kernels.md explains the table.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from machine_code import predict

import pygan
from pygan.bench import machine, report


def flat(rows):
    """The rows with the same columns, one for each pipe."""
    dicts = list(map(asdict, rows))
    for row in dicts:
        for kind in ("instructions", "clocks"):
            row |= {f"{kind}_{pipe}": number for pipe, number in row.pop(kind).items()}
    keys = dict.fromkeys(key for row in dicts for key in row)
    return [{key: row.get(key, 0) for key in keys} for row in dicts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to write the table to, as JSON and CSV")
    out = parser.parse_args().out
    info = pygan.build_info()
    if not info["cuda"]:
        raise SystemExit(
            f"predict_bandwidth: this build has no CUDA kernels; {info['cuda_reason']}"
        )
    try:
        rows = predict.rows()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"predict_bandwidth: {error}") from None
    print(predict.table(rows) + "\n\nAssumptions:")
    print("\n".join(f"* {line}" for line in predict.ASSUMPTIONS))
    if out is not None:
        about = machine.about(torch.device("cpu"))
        written = report.write(out, "static", {"about": about, "static": flat(rows)})
        print("\nWritten: " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
