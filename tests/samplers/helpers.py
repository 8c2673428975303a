"""What the tests of samplers share."""

from oracles import seeded


def run(sampler, denoiser, x, sigmas, seed=0, project=None):
    """The result and all steps."""
    steps = list(sampler.iterate(denoiser, x, sigmas, generator=seeded(seed), project=project))
    return steps[-1].x, steps
