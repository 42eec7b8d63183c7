"""What a type checker knows of the public API. Nothing here runs: ``make lint`` has mypy check it."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import assert_type

import pygan
from pygan.fused_losses import LossParts, LossStats
from pygan.training import FitResult

x = torch.zeros(3)
flag = bool(x.sum())
assert_type(pygan.DiscriminatorLoss()(x, x), Tensor)
assert_type(pygan.DiscriminatorLoss("hinge", weights=2, reduction="sum")([x], [x]), Tensor)
assert_type(pygan.DiscriminatorLoss(return_stats=True)(x, x), tuple[Tensor, LossStats])
assert_type(pygan.DiscriminatorLoss(return_parts=True)(x, x), tuple[Tensor, LossParts])
assert_type(
    pygan.GeneratorLoss(return_stats=True, return_parts=True)(x),
    tuple[Tensor, LossStats, LossParts],
)
assert_type(pygan.GeneratorLoss(reduction="none")(x), Any)
assert_type(pygan.GeneratorLoss(return_stats=flag)(x), Any)
assert_type(pygan.GANLoss("hinge")(x, True), Tensor)
criterion: pygan.DiscriminatorLoss = pygan.DiscriminatorLoss()
assert_type(criterion(x, x), Tensor)
pygan.GeneratorLoss(label_smoothing=0.1)  # type: ignore[call-overload]
pygan.GANLoss()(x)  # type: ignore[call-arg]

net = torch.nn.Linear(3, 3)
sgd = torch.optim.SGD(net.parameters())
given = pygan.FitOptions(steps=3, batch_size=2, out="runs/1")
result = pygan.fit(
    net,
    net,
    x,
    g_optimizer=sgd,
    d_optimizer=sgd,
    latent=3,
    steps=3,
    batch_size=2,
    out="a",
    noise=0.1,
)
assert_type(result, FitResult)
pygan.fit(net, net, x, g_optimizer=sgd, d_optimizer=sgd, latent=3, **vars(given))
pygan.fit(net, net, x, g_optimizer=sgd, d_optimizer=sgd, latent=3, batch_size=3, out="a")  # type: ignore[call-arg]
pygan.fit(net, net, x, g_optimizer=sgd, d_optimizer=sgd, **vars(given), nosie=0.1)  # type: ignore[call-arg]
pygan.fit(net, net, x, g_optimizer=sgd, d_optimizer=sgd, **vars(given), loss=0.1)  # type: ignore[arg-type]
