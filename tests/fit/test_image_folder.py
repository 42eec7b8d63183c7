"""ImageFolder: which files it reads, how it converts them, and how it handles unreadable ones."""

import os
import pickle
import subprocess
import sys

import numpy as np
import PIL
import pytest
import torch
from helpers import accelerated_on
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from pygan import __main__, checkpoint
from pygan.datasets import ImageFolder


@pytest.fixture
def folder(tmp_path):
    """Six images of one color each, named so that sorting matters, and files that must be skipped."""

    def save(name, mode, color, size=(9, 9)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, color).save(path)

    save("b.png", "RGB", (255, 0, 0))
    save("a/2.png", "RGBA", (0, 255, 0, 255))
    save("a/1.JPG", "L", 255, (20, 9))
    save("a/deep/er/0.bmp", "RGB", (0, 0, 255))
    save("c.gif", "P", 0)
    save("d.tiff", "1", 1)
    save(".hidden/x.png", "RGB", 0)
    save("._b.png", "RGB", 0)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "e.png").mkdir()
    return tmp_path


def test_image_folder(folder):
    images = ImageFolder(folder, 8)
    names = [path.relative_to(folder).as_posix() for path in images.paths]
    assert names == ["a/1.JPG", "a/2.png", "a/deep/er/0.bmp", "b.png", "c.gif", "d.tiff"]
    assert len(images) == 6
    for image, color in zip(
        images, [(1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1), (-1, -1, -1), (1, 1, 1)]
    ):
        assert image.dtype == torch.float32 and image.is_contiguous()
        expected = torch.tensor(color, dtype=torch.float32)[:, None, None].expand(3, 8, 8)
        torch.testing.assert_close(image, expected)
    assert ImageFolder(str(folder), 5, channels=1)[0].shape == (1, 5, 5)


def test_image_folder_crops_the_center(tmp_path):
    """30 x 10 with a bright middle third, which is what remains; also rotated by its EXIF orientation."""
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    pixels = np.zeros((10, 10), dtype=np.uint8)
    pixels[0] = 255  # the first row, which becomes the last column with orientation 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=_orientation(6))
    turned, wide = ImageFolder(tmp_path, 10, channels=1)
    torch.testing.assert_close(wide, torch.ones(1, 10, 10))
    assert torch.equal(turned[0, :, -1], torch.ones(10))
    assert torch.equal(turned[0, :, :-1], -torch.ones(10, 9))


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_image_folder_reads_sixteen_bits(tmp_path):
    Image.fromarray(np.full((8, 8), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    torch.testing.assert_close(ImageFolder(tmp_path, 8)[0], torch.full((3, 8, 8), 128 / 127.5 - 1))


def test_image_folder_in_workers(folder):
    images = ImageFolder(folder, 8)
    batches = list(DataLoader(images, batch_size=4, num_workers=2))
    assert torch.equal(torch.cat(batches), torch.stack(list(images)))
    assert pickle.loads(pickle.dumps(images)).paths == images.paths


def noisy(path, size=(40, 40), **options):
    """An image of some kilobytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def truncate(path):
    """Truncate the file after its header."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_links_to_folders_are_followed_without_loops(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in (root / "a" / "1.png", root / "z" / "3.png", elsewhere / "2.png"):
        noisy(path)
    noisy(tmp_path / "one.png")
    (root / "a" / "linked").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)  # a loop
    (root / "b").symlink_to(root / "z")  # already read as z
    (elsewhere / "again").symlink_to(elsewhere)
    (root / "a" / ".hidden").symlink_to(elsewhere)
    (root / "file.png").symlink_to(tmp_path / "one.png")
    names = [str(path.relative_to(root)) for path in ImageFolder(root, 8).paths]
    assert names == ["a/1.png", "a/linked/2.png", "file.png", "z/3.png"]
    (tmp_path / "link").symlink_to(root)
    assert len(ImageFolder(tmp_path / "link", 8)) == 4


RED, WHITE, BLUE = (1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (-1.0, -1.0, 1.0)


def half_hidden(mode):
    """8 x 8, red or gray on the left; on the right, a color with alpha 0."""
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, :4] = (255, 0, 0, 255)
    rgba[:, 4:] = (0, 255, 0, 0)
    image = Image.fromarray(rgba)
    if mode == "P":
        indices = Image.fromarray((np.arange(8) >= 4).astype(np.uint8).repeat(8).reshape(8, 8).T)
        indices.putpalette([255, 0, 0, 0, 255, 0])
        return indices, {"transparency": 1}
    if mode == "RGB":
        return image.convert("RGB"), {"transparency": (0, 255, 0)}
    if mode == "I;16":
        deep = np.full((8, 8), 65535, np.uint16)
        deep[:, 4:] = 4660
        return Image.fromarray(deep), {"transparency": 4660}
    return image.convert(mode), {}


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("RGBA", end) for end in ("png", "webp", "tiff", "tga", "qoi")),
        *(("LA", end) for end in ("png", "tiff")),
        *(("P", end) for end in ("png", "gif")),
        *(("RGB", "png"), ("I;16", "png"), ("PA", "tiff")),
    ],
)
def test_transparent_pixels_show_the_background(mode, suffix, tmp_path):
    image, options = half_hidden(mode)
    if suffix == "webp":
        options = {"lossless": True, "exact": True}
    try:
        image.save(tmp_path / f"half.{suffix}", **options)
        with Image.open(tmp_path / f"half.{suffix}") as saved:
            shown, hidden = (saved.convert("RGBA").getpixel(at) for at in ((0, 0), (7, 7)))
            assert mode in ("I;16", "LA") or (hidden[3] == 0 and shown[3] == shown[0] == 255)
    except (OSError, KeyError, AssertionError):  # the palette is lost
        pytest.skip(f"Pillow {PIL.__version__} does not write {mode} to {suffix}")
    for background, color in (({}, WHITE), ({"background": "#0000ff"}, BLUE)):
        item = ImageFolder(tmp_path, 8, **background)[0]
        expected = torch.tensor(color)[:, None, None].expand(3, 8, 4)
        torch.testing.assert_close(item[:, :, 4:], expected)
        if mode not in ("LA", "I;16"):
            torch.testing.assert_close(
                item[:, :, :4], torch.tensor(RED)[:, None, None].expand(3, 8, 4)
            )
    assert torch.equal(ImageFolder(tmp_path, 8, channels=1)[0][:, :, 4:], torch.ones(1, 8, 4))


def test_translucent_pixels_are_blended_before_scaling(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 51)).save(tmp_path / "a.png")
    item = ImageFolder(tmp_path, 8)[0]
    torch.testing.assert_close(item, torch.full((3, 8, 8), 0.8 * 255 / 127.5 - 1))


def test_cmyk_and_other_modes(tmp_path):
    colors = {"CMYK.jpg": (0, 0, 0, 0), "YCbCr.jpg": (255, 128, 128), "1.png": 1, "L.png": 255}
    for name, color in colors.items():
        Image.new(name.split(".")[0], (9, 9), color).save(tmp_path / name, quality=100)
    for item in ImageFolder(tmp_path, 8):
        torch.testing.assert_close(item, torch.ones(3, 8, 8))


@pytest.mark.parametrize("background", ["nonsense", "#ffffff00", 3, None, (0, 0, 0)])
def test_invalid_background_colors_are_refused(background, folder):
    with pytest.raises(ValueError, match="background must be the name of a color or"):
        ImageFolder(folder, 8, background=background)


def test_only_still_images_decoded_by_pillow_are_opened(tmp_path, monkeypatch):
    """Pillow would start Ghostscript for PostScript, whatever the file name."""
    noisy(tmp_path / "good.png")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    for name in ("a.eps", "b.ps", "c.h5", "d.mpg", "e.fits", "f.grib", "g.wmf", "h.fli", "i.icns"):
        (tmp_path / name).write_bytes(script)
    (tmp_path / "script.jpg").write_bytes(script)

    def refuse(*_):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", refuse)
    with pytest.warns(UserWarning, match=r"skipping 1 .*script\.jpg: not an image of a known fo"):
        images = ImageFolder(tmp_path, 8)
    assert [path.name for path in images.paths] == ["good.png"]
    # A file that is replaced later is not opened as PostScript either.
    images.paths[0].write_bytes(script)
    with (
        pytest.warns(UserWarning, match="cannot identify"),
        pytest.raises(ValueError, match="none"),
    ):
        images[0]


def test_an_old_pillow_is_refused(folder, monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "9.5.0")
    with pytest.raises(ImportError, match=r"needs Pillow 10\.3 or newer, got 9\.5\.0"):
        ImageFolder(folder, 8)


def test_images_with_broken_headers_are_left_out_and_named(tmp_path):
    for i in range(3):
        noisy(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"not a png")
    (tmp_path / "empty.jpg").touch()
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tiff")
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tiff")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")  # would block
    with pytest.warns(UserWarning, match="skipping") as caught:
        images = ImageFolder(tmp_path, 8)
    assert [path.name for path in images.paths] == ["1.png", "2.png"]
    (message,) = (str(w.message) for w in caught)
    assert message.startswith(f"ImageFolder: using 2 images in {tmp_path}, skipping 6 files or")
    for reason in (
        "0.png: not an image of a known format",
        "empty.jpg: not an image of a known format",
        'lab.tiff: pixels of mode "LAB" have no known conversion',
        'float.tiff: pixels of mode "F" have no known conversion',
        "gone.png: not a file",
        "pipe.png: not a file",
    ):
        assert f"{tmp_path}/{reason}" in message
    for path in images.paths:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="must contain readable images, got 8 files or fold"):
        ImageFolder(tmp_path, 8)


def test_a_long_list_of_unreadable_images_is_shortened(tmp_path):
    noisy(tmp_path / "good.png")
    for i in range(25):
        (tmp_path / f"{i:02}.png").touch()
    with pytest.warns(UserWarning, match=r"skipping 25 .*/00\.png.*/09\.png: .*; and 15 more$"):
        ImageFolder(tmp_path, 8)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_read_permission_is_named(tmp_path):
    noisy(tmp_path / "good.png"), noisy(tmp_path / "closed" / "a.png")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.warns(UserWarning, match="skipping 1 .*closed: Permission denied"):
            assert len(ImageFolder(tmp_path, 8)) == 1
    finally:
        (tmp_path / "closed").chmod(0o700)


def some_broken(tmp_path):
    """The items of five images, and the folder after 1, 2 and 4 have been truncated."""
    paths = [noisy(tmp_path / f"{i}.png") for i in range(5)]
    whole = list(ImageFolder(tmp_path, 8))
    for i in (1, 2, 4):
        truncate(paths[i])
    return whole, ImageFolder(tmp_path, 8)


def test_a_broken_image_is_replaced_by_the_next_readable_one(tmp_path):
    whole, images = some_broken(tmp_path)
    assert len(images) == 5
    with pytest.warns(UserWarning, match="cannot read") as caught:
        items = [images[i] for i in (4, 0, 2, 1, 3, -1, -4)]
    for item, stands in zip(items, (0, 0, 3, 3, 3, 0, 3), strict=True):
        assert torch.equal(item, whole[stands])
    named = [str(w.message) for w in caught]
    assert len(named) == 3  # one warning for each
    for i, message in zip((4, 2, 1), named, strict=True):
        assert message.startswith(f"ImageFolder: cannot read {tmp_path}/{i}.png: ")
    with pytest.raises(IndexError):
        images[5]


@pytest.mark.parametrize("workers", [1, 2])
def test_replacements_do_not_depend_on_the_workers(tmp_path, workers):
    whole, images = some_broken(tmp_path)
    expected = torch.stack([whole[i] for i in (0, 3, 3, 3, 0)])
    loader = DataLoader(images, batch_size=2, num_workers=workers)
    for _ in range(2):
        assert torch.equal(torch.cat(list(loader)), expected)
    assert images._broken.tolist() == [False, True, True, False, True]  # also known in this process


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_name_a_broken_image_once(tmp_path, start):
    some_broken(tmp_path)
    code = """
import sys
from torch.utils.data import DataLoader
from pygan import __main__, checkpoint
from pygan.datasets import ImageFolder
images = ImageFolder(sys.argv[1], 8)
for workers in (1, 2, 0):
    list(DataLoader(images, num_workers=workers, multiprocessing_context=sys.argv[2] if workers else None))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), start], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    named = [answer.stderr.count(f"cannot read {tmp_path}/{i}.png") for i in range(5)]
    assert named == [0, 1, 1, 0, 1]


def test_a_run_over_broken_images_is_the_same_with_any_workers_and_when_resumed(tmp_path):
    photos = tmp_path / "photos"
    for i in range(9):
        noisy(photos / f"{i}.png")
    for i in (2, 3, 8):
        truncate(photos / f"{i}.png")
    (photos / "5.png").write_bytes(b"")

    def train(name, steps, workers, *more):
        """Train, and return the trainer's final state."""
        values = {"model.width": 4, "data.size": 8, "train.batch_size": 4, "train.workers": workers}
        values["machine.threads"] = (
            1  # otherwise it is measured, and results depend on the number in the last bits
        )
        values |= {"train.progress": "false", "train.tensorboard": "false", "train.samples": 4}
        sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        arguments = ["--data", photos, "--out", tmp_path / name, "--steps", steps, *sets, *more]
        with accelerated_on("cpu"), pytest.warns(UserWarning, match=r"skipping 1 .*5\.png"):
            assert __main__.main(["train", *map(str, arguments)]) == 0
        return checkpoint.load(checkpoint.latest(tmp_path / name / "checkpoints"))["trainer"]

    expected = train("one", 6, 0)
    torch.testing.assert_close(train("two", 6, 2), expected, rtol=0, atol=0)
    every = ("--set", "train.checkpoint_every=3")
    train("resumed", 6, 0, *every)
    (tmp_path / "resumed" / "checkpoints" / "step-00000006.pt").unlink()
    resumed = train("resumed", 6, 1, *every, "--resume")
    torch.testing.assert_close(resumed, expected, rtol=0, atol=0)


def test_an_image_that_has_been_deleted_is_replaced_too(tmp_path):
    whole, images = some_broken(tmp_path)
    images.paths[0].unlink()
    with pytest.warns(UserWarning, match=r"cannot read .*/0\.png: .*No such file"):
        assert torch.equal(images[0], whole[3])


def test_a_folder_of_broken_images_raises(tmp_path):
    _, images = some_broken(tmp_path)
    for path in images.paths:
        truncate(path)
    with (
        pytest.warns(UserWarning, match="cannot read"),
        pytest.raises(ValueError, match="none of the 5 images can be r"),
    ):
        images[2]


def test_running_out_of_memory_does_not_mark_an_image_as_broken(tmp_path, monkeypatch):
    noisy(tmp_path / "a.png")
    images = ImageFolder(tmp_path, 8)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(ImageFolder, "_decoded", fail)
    with pytest.raises(MemoryError):
        images[0]


def test_rectangular_sizes_and_image_sizes(tmp_path):
    for name, size in (("a.png", (30, 20)), ("b.jpg", (12, 16))):
        Image.new("RGB", size).save(tmp_path / name)
    Image.new("RGB", (20, 10)).save(tmp_path / "c.jpg", exif=_orientation(6))  # rotated
    Image.new("L", (5, 5)).save(tmp_path / "d.png")
    images = ImageFolder(tmp_path, (8, 12))
    assert images.sizes == [(20, 30), (16, 12), (20, 10), (5, 5)] and not images.gray
    assert [image.shape for image in images] == [(3, 8, 12)] * 4
    images = ImageFolder(tmp_path, [12, 8], channels=1)
    assert images.size == (12, 8) and images[2].shape == (1, 12, 8)
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    (tmp_path / "a.png").unlink()
    assert ImageFolder(tmp_path, 8).gray


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_sizes_are_those_after_rotation(suffix, tmp_path):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.{suffix}"
        Image.new("RGB", (20, 10)).save(path, exif=_orientation(orientation))
    images = ImageFolder(tmp_path, 8)
    turned = [ImageOps.exif_transpose(Image.open(path)).size for path in images.paths]
    assert images.sizes == [(height, width) for width, height in turned]


def test_large_jpegs_are_decoded_at_reduced_size(tmp_path):
    """By libjpeg; the item is the same up to rounding."""
    ramp = np.linspace(0, 255, 800).astype(np.uint8)[None, :, None].repeat(800, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    images = ImageFolder(tmp_path, 16)
    with Image.open(tmp_path / "a.jpg") as whole:
        whole.draft(None, (32, 32))
        assert whole.size == (100, 100)
    expected = torch.linspace(-1, 1, 800).reshape(16, 50).mean(1).expand(3, 16, 16)
    torch.testing.assert_close(images[0], expected, atol=0.02, rtol=0)


def test_small_items_are_cached(tmp_path, monkeypatch):
    for i in range(3):
        noisy(tmp_path / f"{i}.png")
    images = ImageFolder(tmp_path, 8)
    first = list(images)
    for path in images.paths:
        path.unlink()
    assert all(torch.equal(a, b) for a, b in zip(first, images, strict=True))
    assert torch.equal(torch.cat(list(DataLoader(images, num_workers=1))), torch.stack(first))
    for i in range(3):
        noisy(tmp_path / f"{i}.png")
    monkeypatch.setattr("pygan._image_folder._CACHE_BYTES", 3 * 3 * 64 - 1)
    images = ImageFolder(tmp_path, 8)
    images[0]
    images.paths[0].unlink()
    with pytest.warns(UserWarning, match="cannot read"):
        assert torch.equal(images[0], images[1])


def test_mirrored_images_follow_the_generator(tmp_path):
    noisy(tmp_path / "a.png")
    plain = ImageFolder(tmp_path, 8)[0]
    images = ImageFolder(tmp_path, 8, mirror=True)
    torch.manual_seed(0)
    drawn = [images[0] for _ in range(40)]
    is_plain = [torch.equal(x, plain) for x in drawn]
    assert 8 < sum(is_plain) < 32
    assert all(same or torch.equal(x, plain.flip(2)) for x, same in zip(drawn, is_plain))
    torch.manual_seed(0)
    assert all(torch.equal(images[0], x) for x in drawn)
    with pytest.raises(TypeError, match="mirror must be a bool, got int"):
        ImageFolder(tmp_path, 8, mirror=1)


def test_labels_are_the_subfolders(tmp_path):
    for name in ("dog/1.png", "cat/deep/2.png", "cat/3.png", "bird/4.png"):
        noisy(tmp_path / name)
    images = ImageFolder(tmp_path, 8, labels=True)
    assert images.classes == ["bird", "cat", "dog"]
    assert [label for _, label in images] == [0, 1, 1, 2]
    assert images[0][0].shape == (3, 8, 8)
    images = ImageFolder(tmp_path, 8, labels=["dog", "cat"])
    assert [label for _, label in images] == [1, 1, 0]
    assert {path.relative_to(tmp_path).parts[0] for path in images.paths} == {"cat", "dog"}
    for labels in (["dog", "cow"], ["dog", "dog"]):
        with pytest.raises(
            ValueError, match=r"names of subfolders that contain images \(bird, cat, dog\)"
        ):
            ImageFolder(tmp_path, 8, labels=labels)
    with pytest.raises(
        ValueError, match=r"labels must name at least two subfolders, got \['dog'\]"
    ):
        ImageFolder(tmp_path, 8, labels=["dog"])
    noisy(tmp_path / "5.png")
    with pytest.raises(
        ValueError, match=r"labels must be False if there are images outside .*5\.png"
    ):
        ImageFolder(tmp_path, 8, labels=True)


def test_a_replaced_image_has_the_label_of_its_replacement(tmp_path):
    for name in ("cat/1.png", "dog/2.png"):
        noisy(tmp_path / name)
    images = ImageFolder(tmp_path, 8, labels=True)
    truncate(tmp_path / "cat/1.png")
    with pytest.warns(UserWarning, match="using the next readable image instead"):
        image, label = images[0]
    assert label == 1 and torch.equal(image, images[1][0])


def test_image_folder_checks_its_arguments(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be an existing folder, got .*nowhere"):
        ImageFolder(tmp_path / "nowhere", 8)
    with pytest.raises(ValueError, match="must contain images, got none in"):
        ImageFolder(folder / "e.png", 8)
    for size in (0, -1, 2.5, True, (8, 0), (8, 8, 8), None):
        with pytest.raises(ValueError, match="size must be an int of at least 1"):
            ImageFolder(folder, size)
    for channels in (0, 2, 4, "RGB"):
        with pytest.raises(ValueError, match="channels must be 1 or 3"):
            ImageFolder(folder, 8, channels=channels)
