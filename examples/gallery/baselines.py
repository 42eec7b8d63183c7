"""An auto-encoder and a variational one, which judge an image pixel by pixel, a GAN, and metrics to compare them by.

The decoder, from codes (N, latent) to images, is the caller's, and so can be of the size of a GAN's generator. What is
returned is a sampler: `sample(1000)` are 1,000 random codes through the decoder alone.
"""

import torch
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.distributions import MultivariateNormal
from torch.optim.lr_scheduler import LambdaLR

import pygan
from pygan.training.models import mlp

LATENT, WIDTH, BATCH, STEPS, SURE = 32, 128, 64, 3000, 0.9


def split_digits():
    """1,500 digits to train on, 297 held out, and the labels of all of them in this order."""
    images, labels = pygan.datasets.digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:1500]], images[order[1500:]], labels[order]


def train_autoencoder(images, decoder, *, latent, steps):
    """Least squared error of the reconstruction (Goodfellow, Bengio and Courville 2016, eq. 14.1).

    Nothing in its loss says which codes are likely: the sampler draws them from the Gaussian with the mean and the
    covariance of the images' codes.
    """
    encoder = _encoder(images, latent)
    _train(images, [encoder, decoder], lambda x: (decoder(encoder(x)) - x).square().mean(), steps)
    with torch.no_grad():
        codes = encoder(images)
    return _sampler(decoder, MultivariateNormal(codes.mean(0), codes.T.cov()))


def train_vae(images, decoder, *, latent, steps):
    """Least negative evidence bound, with one sample of the code (Kingma and Welling 2014, eq. 10).

    The decoder's density is N(x; decoder(z), s² I) with a learned s, so that nobody has to choose how much a squared
    error weighs beside the KL (Rybkin et al. 2021, section 3). Samples are its means, as usual, without that noise.
    """
    encoder = _encoder(images, 2 * latent)
    log_s = nn.ParameterList([torch.zeros(())])

    def loss(x):
        mean, log_variance = encoder(x).chunk(2, dim=1)
        # The reparameterisation trick (section 2.4): the gradient goes through the sample.
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)  # appendix B
        error = (decoder(z) - x).square().flatten(1)
        # -log p(x|z), without the constant.
        return (kl + (0.5 * error * (-2 * log_s[0]).exp() + log_s[0]).sum(1)).mean()

    _train(images, [encoder, decoder, log_s], loss, steps)
    return _sampler(decoder, MultivariateNormal(torch.zeros(latent), torch.eye(latent)))


def train_gan(images, generator, *, latent, steps):
    """The recipe pygan/training/recipes/digits.toml, with its discriminator, but with `steps` steps."""
    _, discriminator = mlp(images.shape[1:], latent=latent, width=WIDTH)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True)
        for network in (generator, discriminator)
    ]
    sigma = pygan.schedules.Cosine(0.5, 0.05, steps=steps * 4 // 5)
    trainer = pygan.GANTrainer(
        generator, discriminator, *optimizers, latent=latent, noise=sigma, ema=0.999
    )
    schedules = [trainer.noise, *(_falling_rate(each, steps) for each in optimizers)]
    for _ in range(steps):
        trainer.step(images[torch.randint(len(images), (BATCH,))])
        for schedule in schedules:
            schedule.step()
    return trainer.sample


MODELS = {"GAN": train_gan, "VAE": train_vae, "auto-encoder": train_autoencoder}


def generate(model, seed):
    """1,000 samples; the decoders are alike in all models."""
    torch.manual_seed(seed)
    decoder, _ = mlp((1, 8, 8), latent=LATENT, width=WIDTH, batch_norm=True)
    return MODELS[model](split_digits()[0], decoder, latent=LATENT, steps=STEPS)(1000)


class DigitMetrics:
    """What a classifier sees in samples, and how far they are from 797 real digits, 297 of which are held out.

    The classifier, of the training digits, is that of examples/digits.py: its features are radial, so that it is unsure
    of what is far from all digits.
    """

    def __init__(self):
        train, held_out, labels = split_digits()
        self.real = torch.cat([held_out, train[:500]])
        self.map = Nystroem(gamma=0.02, n_components=400, random_state=0).fit(train.flatten(1))
        self.classifier = LogisticRegression(C=30, max_iter=500)
        self.classifier.fit(self.features(train), labels[:1500])

    def features(self, images):
        return torch.from_numpy(self.map.transform(images.flatten(1)))

    def __call__(self, images):
        """Classes with 1 % of the images, share of sure ones, Fréchet distances of features and of pixels."""
        features = self.features(images)
        best, label = torch.from_numpy(self.classifier.predict_proba(features)).max(1)
        counts = torch.bincount(label[best > SURE], minlength=10)
        return (
            int((counts >= len(images) / 100).sum()),
            float((best > SURE).double().mean()),
            pygan.metrics.frechet_distance(features, self.features(self.real)),
            pygan.metrics.frechet_distance(images.flatten(1), self.real.flatten(1)),
        )


def _encoder(images, outputs):
    """The decoder of `pygan.training.models.mlp` the other way round, without its BatchNorm."""
    hidden = [nn.Linear(images[0].numel(), WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(WIDTH, outputs))


def _train(images, networks, loss, steps):
    parameters = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    rate = _falling_rate(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(images[torch.randint(len(images), (BATCH,))]).backward()
        optimizer.step()
        rate.step()


def _falling_rate(optimizer, steps):
    """Constant in the first half and down to a tenth in the second, as in that recipe."""
    return LambdaLR(optimizer, lambda i: min(1.0, 1.9 - 1.8 * i / steps))


def _sampler(decoder, codes):
    decoder.eval()

    @torch.no_grad()
    def sample(n):
        return decoder(codes.sample((n,)))

    return sample
