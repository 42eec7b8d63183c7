"""The files of an ImageFolder: finds images and class folders, and lists the formats that Pillow reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FORMATS", "find", "of_classes", "suffixes"]

# Formats of still images that Pillow decodes itself. (It would start Ghostscript for .eps, and its stubs for .h5 and
# .grib cannot decode.)
FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF"),
    *("JPEG2000", "PPM", "QOI", "PCX", "TGA"),
)
_OLDEST_PILLOW = (10, 3)  # earlier versions read 16-bit gray as 32-bit pixels of unknown range


def of_classes(
    root: Path, paths: list[Path], labels: bool | Sequence[str]
) -> tuple[list[Path], list[str]]:
    """The images that have a label, and the subfolders that are classes; without labels, all images and no classes."""
    if labels is False:
        return paths, []
    outside = [path for path in paths if path.parent == root]
    inside = [path for path in paths if path.parent != root]
    folders = sorted({path.relative_to(root).parts[0] for path in inside})
    if labels is True:
        if outside:
            raise ValueError(
                f"ImageFolder: labels must be False if there are images outside of subfolders, such as {outside[0]}, "
                "got True"
            )
        names = folders
    else:
        names = [labels] if isinstance(labels, str) else list(labels)
        missing = [name for name in names if name not in folders]
        if missing or len(set(names)) < len(names):
            raise ValueError(
                "ImageFolder: labels must be distinct names of subfolders that contain images "
                f"({', '.join(folders[:9])}), got {names}"
            )
    if len(names) < 2:
        raise ValueError(f"ImageFolder: labels must name at least two subfolders, got {names}")
    return [path for path in inside if path.relative_to(root).parts[0] in names], names


def suffixes() -> dict[str, str]:
    """Pillow's formats, by file name suffix.

    Raises:
        ImportError: Pillow is missing or too old.
    """
    try:
        import PIL
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'ImageFolder needs Pillow: pip install ".[train]" in a checkout of pygan'
        ) from error
    if tuple(int(n) for n in PIL.__version__.split(".")[:2]) < _OLDEST_PILLOW:
        oldest = ".".join(map(str, _OLDEST_PILLOW))
        raise ImportError(f"ImageFolder needs Pillow {oldest} or newer, got {PIL.__version__}")
    return Image.registered_extensions()


def find(root: Path, suffixes: set[str]) -> tuple[list[Path], list[str]]:
    """The sorted paths of the images, and messages about unreadable folders."""
    paths: list[Path] = []
    problems: list[str] = []
    seen: set[tuple[int, int]] = set()
    # Links last, so that a folder is found by its own path rather than through a link.
    folders = [str(root)]
    for start in folders:
        for here, subfolders, names in os.walk(
            start, onerror=lambda e: problems.append(f"{e.filename}: {e.strerror}")
        ):
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            folders += [p for name in subfolders if os.path.islink(p := os.path.join(here, name))]
            paths += [
                Path(here, name)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
            ]
    return sorted(paths), problems
