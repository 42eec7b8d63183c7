"""The data sets that benchmarks/modes.py uses, with the settings common to all variants, and the variants."""

from typing import NamedTuple


class Setting(NamedTuple):
    """Settings for one data set."""

    data: str
    """The argument of `pygan train --data`."""
    steps: int
    common: str
    """Keys that override the recipe, in all variants except `recipe`."""
    start: float
    end: float
    """The noise: from the first value to the second in four fifths of the steps, or between them if it is adaptive."""
    gamma: float
    every: int
    """Weight of the penalties."""
    published: tuple[tuple[str, dict[str, str]], ...] = ()
    """Published rows of the table: their source and their measures."""
    variants: tuple[str, ...] = ("ns", "ns+noise", "ns+adaptive", "ns+R1", "r3gan", "r3gan+noise")
    """The variants that run by default."""


_POINTS = (
    "train.batch_size = 100\ntrain.ema = 0.999\ntrain.reuse_fakes = false\ntrain.joint = false\n"
)


def _published(source, *rows):
    """The measures of published rows: modes, reverse KL, and the share of high-quality points."""
    names = ("modes", "reverse_kl", "high_quality")
    return tuple((f"{name} ({source})", dict(zip(names, values))) for name, *values in rows)


SETTINGS = {
    "ring": Setting(
        "ring",
        8_000,
        "data.scale = 1.0\n"
        "optimizer = {lr = 1e-3, d_lr = 1e-3, betas = [0.0, 0.99], decay_from = 0.0}\n" + _POINTS,
        *(0.3, 0.003, 0.01, 1),
        _published(
            "PacGAN's table 1", ("GAN", "6.3", ".45", "98.2 %"), ("PacGAN2", "7.9", ".07", "95.6 %")
        ),
    ),
    "grid": Setting(
        "grid",
        14_000,
        "data.scale = 0.5\n"
        "optimizer = {lr = 1e-3, d_lr = 2e-3, betas = [0.0, 0.99], decay_from = 0.3}\n" + _POINTS,
        *(0.5, 0.01, 0.01, 4),
        _published(
            "PacGAN's table 1",
            ("GAN", "17.3", ".70", "94.8 %"),
            ("PacGAN2", "23.8", ".13", "91.3 %"),
        ),
    ),
    "stacked-digits": Setting(
        "stacked-digits",
        6_000,
        "train.reuse_fakes = false\ntrain.joint = false\n",
        *(0.5, 0.02, 1.0, 4),
    ),
    "stacked-mnist": Setting(
        "stacked-mnist",
        14_000,
        "",
        *(0.5, 0.02, 0.3, 4),
        _published(
            "PacGAN's table 2",
            ("DCGAN", "99.0", "3.40"),
            ("ALI", "16.0", "5.40"),
            ("Unrolled GAN", "48.7", "4.32"),
            ("VEEGAN", "150.0", "2.95"),
            ("PacDCGAN2", "1000.0 ± 0.0", ".06 ± .003"),
        )
        + _published("R3GAN's table 1", ("RpGAN + R1 + R2", "1000", ".078")),
    ),
    "mnist": Setting("mnist", 4_000, "", *(0.5, 0.02, 0.3, 4)),
    "mnist-500": Setting("mnist", 4_000, "data.samples = 500\n", *(0.5, 0.02, 0.3, 4)),
    "mnist-options": Setting(
        "mnist",
        4_000,
        "",
        *(0.5, 0.02, 0.3, 4),
        variants=(
            "r3gan",
            *("r3gan separate fakes", "r3gan two batches", "r3gan separate fakes, two batches"),
            *("r3gan without average", "r3gan bf16", "r3gan every step"),
            *("r3gan R1", "r3gan approximate R1", "r3gan R1 and approximate R1"),
        ),
    ),
}


def _noise(setting, steps):
    factor = (setting.end / setting.start) ** (1 / (0.8 * steps))
    return (
        f'noise = {{schedule = "Exponential", start = {setting.start}, end = {setting.end}, '
        f"gamma = {factor}}}\n"
    )


def _adaptive(setting, steps):
    # At most a tenth of the run from one limit to the other.
    return (
        f'noise = {{schedule = "Adaptive", low = {setting.end}, high = {setting.start}, '
        f"steps = {max(1, steps // 10)}}}\n"
    )


def _penalties(*names, every=None, more=""):
    return lambda setting, steps: "".join(
        f'[[penalties]]\nname = "{name}"\ngamma = {setting.gamma}\nevery = {every or setting.every}\n{more}'
        for name in names
    )


def _keys(text):
    return lambda setting, steps: text


_NS, _RELATIVISTIC = (_keys(f'train.loss = "{n}"\n') for n in ("non_saturating", "relativistic"))
_NONE, _R1, _R3 = _keys("penalties = []\n"), _penalties("R1"), _penalties("R1", "R2")
_APPROXIMATE = _penalties("R1", every=1, more="sigma = 0.01\n")
_LABELS = _keys("data.labels = true\n")

# The penalties come last, because they are tables of a TOML file.
VARIANTS = {
    "ns": (_NS, _NONE),
    "ns+noise": (_NS, _NONE, _noise),
    "ns+adaptive": (_NS, _NONE, _adaptive),
    "ns+R1": (_NS, _R1),
    "r3gan": (_RELATIVISTIC, _R3),
    "r3gan+noise": (_RELATIVISTIC, _noise, _R3),
    "ns+R1 labels": (_LABELS, _NS, _R1),
    "r3gan labels": (_LABELS, _RELATIVISTIC, _R3),
    "ns+R1 bf16": (_NS, _keys('train.mixed_precision = "bf16"\n'), _R1),
    "ns+R1 two processes": (_NS, _R1),
    "r3gan separate fakes": (_RELATIVISTIC, _keys("train.reuse_fakes = false\n"), _R3),
    "r3gan two batches": (_RELATIVISTIC, _keys("train.joint = false\n"), _R3),
    "r3gan separate fakes, two batches": (
        _RELATIVISTIC,
        _keys("train.reuse_fakes = false\ntrain.joint = false\n"),
        _R3,
    ),
    "r3gan without average": (_RELATIVISTIC, _keys('train.ema = "none"\n'), _R3),
    "r3gan bf16": (_RELATIVISTIC, _keys('train.mixed_precision = "bf16"\n'), _R3),
    "r3gan every step": (_RELATIVISTIC, _penalties("R1", "R2", every=1)),
    "r3gan R1": (_RELATIVISTIC, _R1),
    "r3gan approximate R1": (_RELATIVISTIC, _APPROXIMATE),
    "r3gan R1 and approximate R1": (_RELATIVISTIC, _penalties("R1", every=16), _APPROXIMATE),
    "recipe": None,
}
"""Additional settings of each variant: functions from the setting and the steps to lines of a configuration."""


def configuration(data, variant, steps=None):
    """The contents of the file for `pygan train --config`."""
    setting = SETTINGS[data]
    parts = VARIANTS[variant]
    if parts is None:
        return "" if steps is None else f"train.steps = {steps}\n"
    steps = steps or setting.steps
    # Six evaluations even with few steps, because each one is the whole protocol.
    common = f"train.steps = {steps}\ntrain.evaluate_every = {-(-steps // 6)}\n" + setting.common
    return common + "".join(part(setting, steps) for part in parts)
