"""Writes a folder of patches of real photographs for trying `pygan train`: the two that scikit-learn contains.

    python examples/patches.py --out patches
    pygan train --data patches --set data.mirror=true

About 1,600 overlapping patches of 64 x 64 pixels from photographs of a temple and a flower are scaled to 32 x 32. Each
photograph has its own subfolder.
"""

import argparse
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("patches"), help="folder for the pictures")
    add("--side", type=int, default=64, help="pixels that are cut out (default: 64)")
    add("--size", type=int, default=32, help="pixels to which they are scaled (default: 32)")
    add("--stride", type=int, default=16, help="pixels between pieces (default: 16)")
    args = parser.parse_args()
    if not (1 <= args.size <= args.side <= 427 and args.stride >= 1):
        parser.error("--size must be from 1 to --side, --side at most 427, and --stride at least 1")
    count = 0
    photos = load_sample_images()
    for pixels, name in zip(photos.images, photos.filenames, strict=True):
        folder = args.out / Path(name).stem
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.fromarray(pixels)
        for top in range(0, photo.height - args.side + 1, args.stride):
            for left in range(0, photo.width - args.side + 1, args.stride):
                box = (left, top, left + args.side, top + args.side)
                piece = photo.resize((args.size, args.size), Image.Resampling.BICUBIC, box=box)
                piece.save(folder / f"{top:03}-{left:03}.png")
                count += 1
    print(f"{count} pictures of {args.size} x {args.size} pixels in {args.out}")


if __name__ == "__main__":
    main()
