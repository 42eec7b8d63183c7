"""Writes a folder of small pictures for trying `pygan train`: circles, squares, triangles, stars and rings.

    python examples/shapes.py --out shapes
    pygan train --data shapes

Each picture shows a shape on a plain background, with random position, size and rotation, in two random colors that
differ in brightness. Each shape has its own subfolder, for runs with labels. The same seed gives the same pictures.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLED = 8  # drawn at a multiple of the size and scaled down, for smooth edges


def polygon(corners, radii, turn):
    """The corners of a regular polygon, or of a star if the radii alternate."""
    n = corners * len(radii)
    angles = turn + 2 * math.pi * np.arange(n) / n
    return np.resize(radii, n)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


SHAPES = {
    "circle": lambda turn: polygon(60, [1.0], turn),
    "square": lambda turn: polygon(4, [1.1], turn),
    "triangle": lambda turn: polygon(3, [1.2], turn),
    "star": lambda turn: polygon(5, [1.25, 0.5], turn),
    "ring": lambda turn: polygon(60, [1.0], turn),
}


def colors(rng):
    """Random colors for background and shape: one dark, one bright."""
    dark, bright = rng.integers(0, 90, 3), rng.integers(130, 256, 3)
    both = [tuple(map(int, dark)), tuple(map(int, bright))]
    return both if rng.random() < 0.5 else both[::-1]


def draw(shape, size, rng):
    """Draw one picture."""
    behind, color = colors(rng)
    side = size * OVERSAMPLED
    radius = side * rng.uniform(0.2, 0.34)
    center = rng.uniform(1.25 * radius, side - 1.25 * radius, 2)
    outline = SHAPES[shape](rng.uniform(0, 2 * math.pi))
    image = Image.new("RGB", (side, side), behind)
    pen = ImageDraw.Draw(image)
    pen.polygon([tuple(p) for p in center + radius * outline], fill=color)
    if shape == "ring":
        pen.polygon([tuple(p) for p in center + 0.55 * radius * outline], fill=behind)
    return image.resize((size, size), Image.Resampling.BOX)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("shapes"), help="folder for the pictures")
    add("--count", type=int, default=2000, help="pictures (default: 2000)")
    add("--size", type=int, default=32, help="height and width in pixels (default: 32)")
    add("--seed", type=int, default=0, help="random seed (default: 0)")
    args = parser.parse_args()
    if args.count < 1 or args.size < 8:
        parser.error("--count must be at least 1, and --size at least 8")
    rng = np.random.default_rng(args.seed)
    for i in range(args.count):
        shape = list(SHAPES)[i % len(SHAPES)]
        folder = args.out / shape
        folder.mkdir(parents=True, exist_ok=True)
        draw(shape, args.size, rng).save(folder / f"{i:05}.png")
    print(f"{args.count} pictures of {args.size} x {args.size} pixels in {args.out}")


if __name__ == "__main__":
    main()
