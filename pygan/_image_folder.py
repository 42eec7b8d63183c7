"""ImageFolder: a folder of images as a Dataset, with unreadable images skipped or replaced."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pygan._image_files import FORMATS, find, of_classes, suffixes
from pygan._validation import check_bool, check_int, is_int

if TYPE_CHECKING:
    from PIL.Image import Image

_GRAY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")  # modes of Pillow's
_NAMED = 10  # of the files that are left out: so many are listed
_ORIENTATION = 0x0112  # the tag of EXIF
_KEPT = 1 << 28  # bytes: if all items need no more, each is read once


class ImageFolder(Dataset[Any]):
    """The images in a folder and its subfolders, in the order of their sorted paths, read when they are asked for.

    Each item is one image, (channels, height, width) float32 in [-1, 1]: turned upright as its EXIF data say, put on
    the background where it is transparent, scaled (bicubic, antialiased) until it covers the size and cropped to the
    center. With labels it is a pair of that and the label, an int. Meant for the worker processes of a DataLoader.
    Items that fit in 256 MiB together are kept, in memory that the processes share, once they have been read.

    Links to folders are followed; a folder that several of them lead to, or that contains itself, is read once. Hidden
    files and folders are passed over, and so are files whose names do not end like those of a still image: .jpg, .png,
    .webp, .avif, .gif (of which the first frame is taken), .bmp, .tiff, .jp2, .ppm, .qoi, .pcx, .tga and variants.

    An image that cannot be read ends nothing. One whose header is broken is left out from the start, with a warning
    that says how many there are and names them. One that turns out to be broken when it is decoded, or that is gone by
    then, is named in a warning, once for all worker processes, and from then on the next readable image stands in for
    it: which one depends on the files alone.

    Args:
        folder: where to look.
        size: of the items in pixels: height and width, or both in one number.
        channels: 3 for RGB or 1 for gray; images are converted.
        background: the color behind transparent pixels, by a name of CSS or as "#rrggbb". What a file stores as the
            color of a transparent pixel is arbitrary, and not part of the image.
        mirror: turn left and right about in half of the items, drawn from torch's default generator at each reading.
        labels: True: an image's label is the number of its subfolder, the one next to `folder`, in the order of their
            names. A list of names of subfolders: the label is the place in the list, and other images are left out.

    Attributes:
        paths: of the images, a list; item i is read from ``paths[i]``.
        sizes: of the images as they are, upright, a list of (height, width).
        gray: whether all images are stored as gray ones.
        classes: the subfolders that the labels stand for, a list; empty without labels.
        size, channels: of the items, (height, width) and 3 or 1; they may be changed before the first is read.

    Raises:
        ValueError: the folder has no readable images in it, or an argument is not as described, or there are to be
            labels, and images outside of subfolders or fewer than two subfolders. Reading an item raises it when none
            of the images can be decoded any more.
        FileNotFoundError: there is no such folder.
        ImportError: there is no Pillow, or one before 10.3.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int | Sequence[int],
        *,
        channels: int = 3,
        background: str = "white",
        mirror: bool = False,
        labels: bool | Sequence[str] = False,
    ) -> None:
        registered = suffixes()
        height: Any = size
        width: Any = size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            height, width = size
        check_int("ImageFolder", "size", height)
        check_int("ImageFolder", "size", width)
        check_bool("ImageFolder", "mirror", mirror)
        if not is_int(channels, 1) or channels not in (1, 3):
            raise ValueError(f"ImageFolder: channels must be 1 or 3, got {channels!r}")
        self.size: tuple[int, int] = (height, width)
        self.channels, self.mirror = channels, mirror
        self._background = _color(background)
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"ImageFolder: folder must be a folder, got {root}")
        self._formats = [name for name in FORMATS if name in registered.values()]
        ends = {suffix for suffix, name in registered.items() if name in self._formats}
        found, problems = find(root, ends)
        found, self.classes = of_classes(root, found, labels)
        # Mostly waiting for the disk, which several threads can do at once.
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(self._header, found))
        self.paths = [
            path for path, size in zip(found, read, strict=True) if not isinstance(size, str)
        ]
        known = [size for size in read if not isinstance(size, str)]
        self.sizes = [(height, width) for height, width, _ in known]
        self.gray = all(gray for *_, gray in known)
        problems += [f"{p}: {e}" for p, e in zip(found, read, strict=True) if isinstance(e, str)]
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
        places = {name: i for i, name in enumerate(self.classes)}
        self._labels = [places[path.relative_to(root).parts[0]] for path in self.paths if places]
        # Shared with the worker processes: a broken image is tried, and warned of, once.
        self._broken = torch.zeros(len(self.paths), dtype=torch.bool)
        self._broken.share_memory_()  # type: ignore[no-untyped-call]
        # The pixels that have been read, and of which images: shared by processes that start after the first reading.
        self._read: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        i, pixels = self._readable(index)
        # By numpy: torch multiplies by the reciprocal, which rounds, in some of its loops.
        image = torch.from_numpy(pixels.numpy() / np.float32(127.5) - 1)
        if self.mirror and torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image, self._labels[i]) if self.classes else image

    def _readable(self, index: int) -> tuple[int, Tensor]:
        """The place and the pixels, uint8 (channels, height, width), of the image, or of the next one that can be
        read."""
        n = len(self.paths)
        first = range(n)[index]  # IndexError beyond the last, which ends a loop over the items
        for i in (*range(first, n), *range(first)):
            if self._broken[i]:
                continue
            if self._read is not None and self._read[1][i]:
                return i, self._read[0][i]
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
            return i, self._keep(i, self._fitted(picture))
        raise ValueError(f"ImageFolder: none of the {n} images can be read any more")

    def _keep(self, i: int, pixels: Tensor) -> Tensor:
        """The pixels of image i, kept if there is room."""
        n = len(self.paths)
        if self._read is None and n * pixels.numel() <= _KEPT:
            with suppress(RuntimeError):  # less shared memory than that, as in many containers
                kept = torch.empty(n, *pixels.shape, dtype=torch.uint8)
                which = torch.zeros(n, dtype=torch.bool)
                for tensor in (kept, which):
                    tensor.share_memory_()  # type: ignore[no-untyped-call]
                self._read = kept, which
        if self._read is not None:
            self._read[0][i] = pixels
            self._read[1][i] = True
        return pixels

    def _header(self, path: Path) -> tuple[int, int, bool] | str:
        """(height, width) of the image, upright, and whether it is gray; or why it cannot be read, as far as its first
        bytes show."""
        from PIL import Image, UnidentifiedImageError

        try:
            if not path.is_file():  # but a pipe, which would block, or a link to nothing
                return "not a file"
            with Image.open(path, formats=self._formats) as image:
                _check_mode(image)
                width, height = image.size
                # Of a PNG whose EXIF data come last, Pillow would decode all pixels first.
                known = image.format != "PNG" or "exif" in image.info
                turned = known and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
                upright = (width, height) if turned else (height, width)
                return *upright, image.mode in _GRAY
        except UnidentifiedImageError:
            return "not an image of a known format"
        except Exception as error:
            return str(error) or type(error).__name__

    def _decoded(self, path: Path) -> Image:
        from PIL import Image, ImageOps

        with Image.open(path, formats=self._formats) as image:
            # A JPEG is decoded at a half, a quarter or an eighth of its size, where that is still twice the item's.
            image.draft(None, (2 * max(self.size),) * 2)
            mode = "L" if self.channels == 1 else "RGB"
            return _opaque(ImageOps.exif_transpose(image), self._background).convert(mode)

    def _fitted(self, picture: Image) -> Tensor:
        from PIL import Image, ImageOps

        height, width = self.size
        fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
        pixels = np.array(fitted).reshape(height, width, self.channels)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


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
