"""The code in the documentation: its location, and the names that it uses."""

import ast
import functools
import re
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import pygan
from helpers import ROOT, free_port
from helpers.result import trained
from pygan.training import fit
from pygan.training.models import mlp

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
MODULES = sorted((ROOT / "pygan").rglob("*.py"))
SECTION = re.compile(r"(Args|Attributes|Returns|Raises):\n")


class Block(NamedTuple):
    line: int
    language: str
    code: str

    def run(self, path, names):
        """A block of code. Tracebacks show the line numbers of the page."""
        exec(compile("\n" * (self.line - 1) + self.code, path, "exec"), names)


def blocks(page):
    """The fenced blocks of a Markdown page. A diff gives two blocks, its old and its new side."""
    text = page.read_text("utf-8")
    found = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S))
    assert 2 * len(found) == text.count("```"), f"{page}: a fence that is not at the line's begin"
    for match in found:
        block = Block(text.count("\n", 0, match.start()) + 2, match[1], match[2])
        if block.language != "diff":
            yield block
            continue
        for side in ("-", "+"):
            kept = [s[1:] if s[:1] in (" ", side) else "" for s in block.code.splitlines()]
            yield Block(block.line, "python", "\n".join(kept))


def examples(module):
    """The indented paragraphs in a module's docstrings, before sections such as "Args:"."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                if SECTION.match(paragraph):
                    break
                lines = paragraph.splitlines()
                if lines and all(line.startswith("    ") for line in lines):
                    yield Block(1, "python", "\n".join(line[4:] for line in lines))


class Network(nn.Module):
    """A network with optional labels, which it ignores."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x, labels=None):
        return self.layers(x)


def Generator():
    return Network(mlp((3, 8, 8), latent=128, width=8)[0])


class Layers(nn.Module):
    """Returns logits and feature maps of audio."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(256, 4), nn.Linear(4, 1)

    def forward(self, x):
        features = self.first(x).relu()
        return self.last(features), [features]


class Autoencoder(nn.Module):
    """Returns the images and a codebook's loss."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(OrderedDict(conv_out=nn.Conv2d(3, 3, 1)))

    def forward(self, x):
        x = self.decoder(x)
        return x, x.square().mean()


def Discriminator():
    return Network(mlp((3, 8, 8), latent=128, width=8)[1])


def page_names():
    """The names that the pages use without defining them: networks, a loader, a batch of each kind."""
    torch.manual_seed(0)
    G, D = Generator(), Discriminator()
    g_optimizer, d_optimizer = (torch.optim.Adam(net.parameters()) for net in (G, D))
    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128, noise=0.1)
    images = 2 * torch.rand(64, 3, 8, 8) - 1
    real, z = images[:8], torch.randn(8, 128)
    stats = trainer.step(real)  # before the graphs that the pages differentiate
    fake = G(z)
    last_layer = next(G.parameters())
    vocoder, vqgan = nn.Linear(16, 256), Autoencoder()
    return {
        "D": D,
        "Discriminator": Discriminator,
        "G": G,
        "Generator": Generator,
        "audio": torch.randn(8, 256),
        "d_optimizer": d_optimizer,
        "device": "cpu",
        "discriminator": D,
        "fake": fake,
        "fake_features": images.flatten(1)[:, 4:8],
        "fake_logits": D(fake),
        "features": lambda x: x.flatten(1)[:, :4],
        "g_loss": -D(G(z)).mean(),
        "g_optimizer": g_optimizer,
        "images": images,
        "images_uint8": (127.5 * (real + 1)).to(torch.uint8),
        "labels": torch.arange(8),
        "last_layer": last_layer,
        "loader": images[:16].split(8),
        "mel": lambda audio: audio.unflatten(1, (16, 16)).square().mean(2),
        "multiscale_D": lambda x: [D(x), D(-x), D(x / 2)],
        "noise": trainer.noise,
        "p": torch.full((10,), 0.1),
        "period_discriminators": [Layers(), Layers()],
        "points": pygan.datasets.ring(100),
        "pygan": pygan,
        "q": torch.full((10,), 0.1),
        "range": lambda n: range(min(n, 20)),  # for loops over the steps of a training
        "real": real,
        "real_features": images.flatten(1)[:, :4],
        "real_logits": D(real),
        "reconstruction_loss": (G(z) - real).abs().mean(),
        "scale_discriminators": [Layers()],
        "sigma": 0.1,
        "stats": stats,
        "torch": torch,
        "trainer": trainer,
        "vocoder": vocoder,
        "vocoder_optimizer": torch.optim.Adam(vocoder.parameters()),
        "vqgan": vqgan,
        "vqgan_optimizer": torch.optim.Adam(vqgan.parameters()),
        "z": z,
    }


@functools.cache
def trained_state(data):
    """The checkpoint of a short `pygan train` run; the only folder of images is called photos."""
    with tempfile.TemporaryDirectory() as out:
        small = (
            ["data.size=8", "train.workers=0", "train.drop_last=false"] if data == "photos" else []
        )
        return pygan.checkpoint.load(trained(data, Path(out), *small).checkpoint)


def surroundings(folder, monkeypatch):
    """Prepare a folder to write to, with a photo in photos/, an empty run/ and runs/; shorten fit; set torchrun's
    environment for a single process."""
    from PIL import Image

    monkeypatch.chdir(folder)
    for name in ("photos", "run"):
        Path(name).mkdir()
    Image.new("RGB", (64, 64), "teal").save("photos/1.png")
    for name, data in (("digits", "digits"), ("photos", "photos")):
        state = trained_state(data)
        Path("runs", name, "checkpoints").mkdir(parents=True)
        pygan.checkpoint.save(f"runs/{name}/checkpoints/step-00006000.pt", state)
    monkeypatch.setattr(pygan, "fit", shortened(fit))
    for key, value in (("RANK", 0), ("WORLD_SIZE", 1), ("MASTER_PORT", free_port())):
        monkeypatch.setenv(key, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def shortened(function):
    """The function with `steps` limited to 3."""

    @functools.wraps(function)
    def short(*args, steps, **options):
        return function(*args, steps=min(steps, 3), **options)

    return short
