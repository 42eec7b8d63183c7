"""ImageFolder: the images of a folder as a Dataset, those that cannot be read left out or replaced."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pygan._arguments import check_int

if TYPE_CHECKING:
    from PIL.Image import Image

# Still images that Pillow decodes itself. It would start Ghostscript for .eps, and its stubs for .h5 or .grib decode
# nothing.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF"),
    *("JPEG2000", "PPM", "QOI", "PCX", "TGA"),
)
_OLDEST_PILLOW = (10, 3)  # earlier ones read 16-bit gray as 32-bit pixels, whose range is not known
_NAMED = 10  # of the files that are left out: so many are listed


class ImageFolder(Dataset[Tensor]):
    """The images in a folder and its subfolders, in the order of their sorted paths, read when they are asked for.

    Each item is one image, (channels, size, size) float32 in [-1, 1]: turned upright as its EXIF data say, put on
    the background where it is transparent, scaled (bicubic, antialiased) until its shorter side fits and cropped to
    the center. Meant for the worker processes of a DataLoader.

    Links to folders are followed; a folder that several of them lead to, or that contains itself, is read once. Hidden
    files and folders are passed over, and so are files whose names do not end like those of a still image: .jpg, .png,
    .webp, .avif, .gif (of which the first frame is taken), .bmp, .tiff, .jp2, .ppm, .qoi, .pcx, .tga and variants.

    An image that cannot be read ends nothing. One whose header is broken is left out from the start, with a warning
    that says how many there are and names them. One that turns out to be broken when it is decoded, or that is gone by
    then, is named in a warning, once for all worker processes, and from then on the next readable image stands in for
    it: which one depends on the files alone.

    Args:
        folder: where to look.
        size: height and width of the items in pixels.
        channels: 3 for RGB or 1 for gray; images are converted.
        background: the color behind transparent pixels, by a name of CSS or as "#rrggbb". What a file stores as the
            color of a transparent pixel is arbitrary, and not part of the image.

    Attributes:
        paths: of the images, a list; item i is read from ``paths[i]``.

    Raises:
        ValueError: the folder has no readable images in it, or an argument is not as described. Reading an item
            raises it when none of the images can be decoded any more.
        FileNotFoundError: there is no such folder.
        ImportError: there is no Pillow, or one before 10.3.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int,
        *,
        channels: int = 3,
        background: str = "white",
    ) -> None:
        registered = _suffixes()
        check_int("ImageFolder", "size", size)
        if channels not in (1, 3) or isinstance(channels, bool):
            raise ValueError(f"ImageFolder: channels must be 1 or 3, got {channels!r}")
        self.size, self.channels = size, channels
        self._background = _color(background)
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"ImageFolder: folder must be a folder, got {root}")
        self._formats = [name for name in _FORMATS if name in registered.values()]
        suffixes = {suffix for suffix, name in registered.items() if name in self._formats}
        found, problems = _find(root, suffixes)
        # Mostly waiting for the disk, which several threads can do at once.
        with ThreadPoolExecutor(8) as pool:
            errors = list(pool.map(self._header_error, found))
        self.paths = [path for path, error in zip(found, errors, strict=True) if error is None]
        problems += [f"{p}: {e}" for p, e in zip(found, errors, strict=True) if e is not None]
        if not found and not problems:
            raise ValueError(f"ImageFolder: folder must have images in it, got none in {root}")
        if problems:
            listed = "; ".join(problems[:_NAMED])
            more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            told = f"{len(problems)} images or folders that cannot be read: {listed}{more}"
            if not self.paths:
                raise ValueError(f"ImageFolder: folder must have readable images in it, got {told}")
            warnings.warn(
                f"ImageFolder: takes {len(self.paths)} images in {root} and leaves out {told}",
                stacklevel=2,
            )
        # Shared with the worker processes: a broken image is tried, and warned of, once.
        self._broken = torch.zeros(len(self.paths), dtype=torch.bool)
        self._broken.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        n = len(self.paths)
        first = range(n)[index]  # IndexError beyond the last, which ends a loop over the items
        for i in (*range(first, n), *range(first)):
            if self._broken[i]:
                continue
            try:
                picture = self._decoded(self.paths[i])
            # What Pillow raises for files it cannot read depends on the format, down to SyntaxError (PNG).
            except Exception as error:
                if isinstance(error, MemoryError):
                    raise  # no fault of the image
                self._broken[i] = True
                warnings.warn(
                    f"ImageFolder: cannot read {self.paths[i]}: {error}; the next readable image stands in for it",
                    stacklevel=2,
                )
                continue
            return self._fitted(picture)
        raise ValueError(f"ImageFolder: none of the {n} images can be read any more")

    def _header_error(self, path: Path) -> str | None:
        """Why the image cannot be read, as far as its first bytes show."""
        from PIL import Image, UnidentifiedImageError

        try:
            if not path.is_file():  # but a pipe, which would block, or a link to nothing
                return "not a file"
            with Image.open(path, formats=self._formats) as image:
                _check_mode(image)
        except UnidentifiedImageError:
            return "not an image of a known format"
        except Exception as error:
            return str(error)
        return None

    def _decoded(self, path: Path) -> Image:
        from PIL import Image, ImageOps

        with Image.open(path, formats=self._formats) as image:
            mode = "L" if self.channels == 1 else "RGB"
            return _opaque(ImageOps.exif_transpose(image), self._background).convert(mode)

    def _fitted(self, picture: Image) -> Tensor:
        from PIL import Image, ImageOps

        fitted = ImageOps.fit(picture, (self.size, self.size), Image.Resampling.BICUBIC)
        pixels = np.array(fitted, dtype=np.float32).reshape(self.size, self.size, self.channels)
        return torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(127.5) - 1).contiguous()


def _suffixes() -> dict[str, str]:
    """The formats of Pillow's, by the ends of file names.

    Raises:
        ImportError: there is no Pillow, or it is too old.
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


def _color(background: str) -> tuple[int, ...]:
    from PIL import ImageColor

    try:
        color = ImageColor.getrgb(background)
    except (ValueError, AttributeError, TypeError):
        color = ()
    if len(color) != 3:
        raise ValueError(
            f'ImageFolder: background must be the name of a color or "#rrggbb", got {background!r}'
        )
    return color


def _find(root: Path, suffixes: set[str]) -> tuple[list[Path], list[str]]:
    """The sorted paths of the images, and what is wrong with folders that cannot be read."""
    paths: list[Path] = []
    problems: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders = [
        str(root)
    ]  # and then the links: a folder is found by its own path before that of a link
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


def _check_mode(image: Image) -> None:
    """Raise a ValueError for pixels that cannot be made 8-bit ones."""
    if image.mode in ("I", "F", "LAB"):
        raise ValueError(f'pixels of mode "{image.mode}" have no known conversion to RGB')


def _opaque(image: Image, background: tuple[int, ...]) -> Image:
    """The image in 8 bits, on the background where it is transparent."""
    from PIL import Image as images

    _check_mode(image)
    if image.mode.startswith(
        "I;16"
    ):  # Pillow's own conversion clips at 255, which leaves white images
        deep = np.asarray(image)
        hidden = image.info.get("transparency")  # the gray that stands for it
        image = images.fromarray((deep >> 8).astype(np.uint8))
        if hidden is not None:
            image.putalpha(images.fromarray((deep != hidden).astype(np.uint8) * 255))
    if not image.has_transparency_data:
        return image
    behind = images.new("RGBA", image.size, (*background, 255))
    behind.alpha_composite(image.convert("RGBA"))
    return behind
