"""pygan.EMA of networks that torch cannot copy, and checkpoints of wrapped networks."""

import pytest
import torch
from helpers.trainer import assert_same, networks
from torch import nn

import pygan

OLD = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
NORMED = {
    "weight_norm": lambda: nn.utils.weight_norm(nn.Linear(4, 6)),
    "weight_norm, recurrent": lambda: nn.utils.weight_norm(nn.GRU(4, 6), "weight_hh_l0"),
    "spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 6)),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)),
}


def output(network, x):
    y = network(x)
    return y[0] if isinstance(y, tuple) else y


@OLD
@pytest.mark.parametrize("name", NORMED)
def test_an_average_of_a_normed_generator_after_a_forward_pass(name):
    """Its computed weights have a graph, and deepcopy refuses such tensors."""
    torch.manual_seed(0)
    G, x = NORMED[name](), torch.randn(3, 4)
    before = output(G, x)
    average = pygan.EMA(G, 0.5)
    average.update_parameters(G)
    old = {key: value.clone() for key, value in G.state_dict().items()}
    assert_same(average.module.state_dict(), old)
    torch.testing.assert_close(output(average.eval(), x), before)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(1.0)
    average.update_parameters(G)
    for key, value in G.state_dict().items():
        torch.testing.assert_close(average.module.state_dict()[key], 0.5 * (old[key] + value))
    # The computed weights are those of the averaged parameters.
    alike = NORMED[name]()
    alike.load_state_dict(average.module.state_dict())
    assert_same(output(average, x), output(alike.eval(), x))
    assert not torch.equal(output(average, x), before)


@OLD
def test_a_normed_generator_trains_with_an_average():
    G = nn.utils.weight_norm(nn.Linear(4, 6))
    G(torch.randn(3, 4))
    D = nn.Linear(6, 1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, ema=0.9)
    for _ in range(2):
        trainer.step(torch.randn(8, 6))
    assert trainer.sample(2).shape == (2, 6)
    G.weight_g.data.mul_(2.0)
    trainer.load_state_dict(trainer.state_dict())


def test_checkpoints_of_wrapped_networks_have_no_wrapper_prefix():
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    wrapped = [nn.DataParallel(net) for net in (G, D)]
    trainer = pygan.GANTrainer(*wrapped, *optimizers, latent=4, ema=0.9)
    trainer.step(torch.randn(8, 6))
    state = trainer.state_dict()
    assert set(state["generator"]) == set(G.state_dict())
    assert set(state["discriminator"]) == set(D.state_dict())
    assert {key.removeprefix("module.") for key in state["ema"]} == {*G.state_dict(), "n_averaged"}
    G, D = networks(seed=1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    plain = pygan.GANTrainer(G, D, *optimizers, latent=4, ema=0.9)
    plain.load_state_dict(state)
    assert_same(plain.sample(3), trainer.sample(3))
