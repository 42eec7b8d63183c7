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
from pygan._validation import check_bool, check_int, counted, is_int

if TYPE_CHECKING:
    from PIL.Image import Image

_GRAY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")  # Pillow's gray modes
_MAX_LISTED = 10  # the most unreadable files that a message lists
_ORIENTATION = 0x0112  # the EXIF tag
_CACHE_BYTES = 1 << 28  # if all items fit in this many bytes, each file is read only once


class ImageFolder(Dataset[Any]):
    """The images in a folder and its subfolders, sorted by path and read on demand.

    Each item is an image, (channels, height, width) float32 in [-1, 1]: rotated according to its EXIF data, composited
    over the background where it is transparent, scaled (bicubic, antialiased) to cover the size, and center-cropped.
    With labels, an item is a pair of the image and its label, an int. Suitable for the worker processes of a
    DataLoader. If all items fit in 256 MiB, they are cached in shared memory once they have been read.

    Links to folders are followed; a folder that several links lead to, or that contains itself, is read once. Hidden
    files and folders are skipped, and so are files without the suffix of a still image: .jpg, .png, .webp, .avif, .gif
    (only the first frame is read), .bmp, .tiff, .jp2, .ppm, .qoi, .pcx, .tga and variants.

    Unreadable images do not raise an error. Images with a broken header are left out from the start, with a warning
    that counts and names them. An image that cannot be decoded, or that has been deleted, is named in a warning, once
    for all worker processes, and is then replaced by the next readable image, which depends only on the files.

    Args:
        folder: the folder to search.
        size: size of the items in pixels: (height, width), or one number for both.
        channels: 3 for RGB or 1 for gray; images are converted.
        background: the color behind transparent pixels, as a CSS name or "#rrggbb". (The color that a file stores for a
            transparent pixel is arbitrary, and not part of the image.)
        mirror: flip items horizontally at random, with probability 1/2, drawn from torch's default generator at each
            access.
        labels: True: the label of an image is the index of its subfolder, directly below `folder`, in the sorted names.
            A list of subfolder names: the label is the index in the list, and other images are left out.

    Attributes:
        paths: list of the images' paths; item i is read from ``paths[i]``.
        sizes: list of the original sizes (height, width), after rotation.
        gray: whether all images are stored in gray.
        classes: list of the subfolders that are classes; empty without labels.
        size, channels: size (height, width) and channels, 3 or 1, of the items; may be changed before the first one is
            read.

    Raises:
        ValueError: the folder contains no readable images, an argument is invalid, or labels were requested although
            images are outside of subfolders or there are fewer than two subfolders. Also raised when an item is read
            and none of the images can be decoded any more.
        FileNotFoundError: the folder does not exist.
        ImportError: Pillow is missing or older than 10.3.
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
            raise FileNotFoundError(f"ImageFolder: folder must be an existing folder, got {root}")
        self._formats = [name for name in FORMATS if name in registered.values()]
        ends = {suffix for suffix, name in registered.items() if name in self._formats}
        found, problems = find(root, ends)
        found, self.classes = of_classes(root, found, labels)
        # Reading headers mostly waits for the disk, which several threads can do concurrently.
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
            raise ValueError(f"ImageFolder: folder must contain images, got none in {root}")
        if problems:
            listed = "; ".join(problems[:_MAX_LISTED])
            more = (
                f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
            )
            kinds = "file or folder" if len(problems) == 1 else "files or folders"
            skipped = f"{len(problems)} {kinds} that cannot be read: {listed}{more}"
            if not self.paths:
                raise ValueError(f"ImageFolder: folder must contain readable images, got {skipped}")
            warnings.warn(
                f"ImageFolder: using {counted(len(self.paths), 'image')} in {root}, skipping {skipped}",
                stacklevel=2,
            )
        places = {name: i for i, name in enumerate(self.classes)}
        self._labels = [places[path.relative_to(root).parts[0]] for path in self.paths if places]
        # Shared with the worker processes, so that a broken image is tried and reported only once.
        self._broken = torch.zeros(len(self.paths), dtype=torch.bool)
        self._broken.share_memory_()  # type: ignore[no-untyped-call]
        # The cached pixels, and which images they contain: shared with processes that start after the first access.
        self._pixels: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        i, pixels = self._load(index)
        # With numpy, because some of torch's loops multiply by the rounded reciprocal.
        image = torch.from_numpy(pixels.numpy() / np.float32(127.5) - 1)
        if self.mirror and torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image, self._labels[i]) if self.classes else image

    def _load(self, index: int) -> tuple[int, Tensor]:
        """The index and the pixels, uint8 (channels, height, width), of the image, or of the next readable one."""
        n = len(self.paths)
        first = range(n)[index]  # raises IndexError past the end, which ends loops over the items
        for i in (*range(first, n), *range(first)):
            if self._broken[i]:
                continue
            if self._pixels is not None and self._pixels[1][i]:
                return i, self._pixels[0][i]
            try:
                picture = self._decoded(self.paths[i])
            # The exceptions that Pillow raises for unreadable files depend on the format, and include SyntaxError
            # (PNG).
            except Exception as error:
                if isinstance(error, MemoryError):
                    raise  # not caused by the image
                self._broken[i] = True
                warnings.warn(
                    f"ImageFolder: cannot read {self.paths[i]}: {error}; using the next readable image instead",
                    stacklevel=2,
                )
                continue
            return i, self._cache(i, self._resized(picture))
        raise ValueError(f"ImageFolder: none of the {n} images can be read any more")

    def _cache(self, i: int, pixels: Tensor) -> Tensor:
        """The pixels of image i, which are cached if there is room."""
        n = len(self.paths)
        if self._pixels is None and n * pixels.numel() <= _CACHE_BYTES:
            with suppress(RuntimeError):  # too little shared memory, as in many containers
                buffer = torch.empty(n, *pixels.shape, dtype=torch.uint8)
                which = torch.zeros(n, dtype=torch.bool)
                for tensor in (buffer, which):
                    tensor.share_memory_()  # type: ignore[no-untyped-call]
                self._pixels = buffer, which
        if self._pixels is not None:
            self._pixels[0][i] = pixels
            self._pixels[1][i] = True
        return pixels

    def _header(self, path: Path) -> tuple[int, int, bool] | str:
        """(height, width) of the image after rotation, and whether it is gray; or the reason why its header cannot be
        read."""
        from PIL import Image, UnidentifiedImageError

        try:
            if not path.is_file():  # a pipe, which would block, or a broken link
                return "not a file"
            with Image.open(path, formats=self._formats) as image:
                _check_mode(image)
                width, height = image.size
                # For a PNG whose EXIF data come last, Pillow would first decode all pixels.
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
            # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is still at least twice the item's size.
            image.draft(None, (2 * max(self.size),) * 2)
            mode = "L" if self.channels == 1 else "RGB"
            return _on_background(ImageOps.exif_transpose(image), self._background).convert(mode)

    def _resized(self, picture: Image) -> Tensor:
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
    """Raise a ValueError for pixels that cannot be converted to 8 bits."""
    if image.mode in ("I", "F", "LAB"):
        raise ValueError(f'pixels of mode "{image.mode}" have no known conversion to RGB')


def _on_background(image: Image, background: tuple[int, ...]) -> Image:
    """The image in 8 bits, composited over the background."""
    from PIL import Image as images

    _check_mode(image)
    # Pillow's own conversion clips at 255, which gives white images.
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        hidden = image.info.get("transparency")  # the gray value of transparent pixels
        image = images.fromarray((deep >> 8).astype(np.uint8))
        if hidden is not None:
            image.putalpha(images.fromarray((deep != hidden).astype(np.uint8) * 255))
    if not image.has_transparency_data:
        return image
    behind = images.new("RGBA", image.size, (*background, 255))
    behind.alpha_composite(image.convert("RGBA"))
    return behind
