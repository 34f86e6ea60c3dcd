"""The inverse temperature of an Ising lattice: one surrogate, and its posterior made four ways.

Run it as ``python examples/posterior_ising.py``: less than half a minute.
"""

import torch
from sbi.inference import MCMCPosterior
from sbi.inference.potentials import likelihood_estimator_based_potential
from sbi.utils import BoxUniform

import physgen
from simulators.ising import Ising

# A simulator, and a surrogate that learns its p(x|θ).
data = physgen.simulate(Ising(size=6), n=2000, seed=1)
observed = physgen.simulate(Ising(size=6), n=1, seed=3)
model = physgen.fit("autoregressive", data, epochs=5)

# One lattice turned around: on the grid, by Markov chains, by NPE on samples of the surrogate.
for method, few in (("grid", {}), ("mcmc", {}), ("npe", {"simulations": 1000, "epochs": 10})):
    posterior = physgen.infer(model, observed, method=method, **few)
    low, high = posterior.interval(0.9)[0, :, 0]
    print(f"{method}: {posterior.mean[0, 0]:.3f}, in [{low:.3f}, {high:.3f}] with 90 %")

# The same likelihood inside sbi, for whatever sbi does with one.
box = model.law.prior
prior = BoxUniform(torch.tensor(box.low).float(), torch.tensor(box.high).float())
x = torch.from_numpy(observed.x).float()
potential, transform = likelihood_estimator_based_potential(model.as_sbi(), prior, x)
chains = MCMCPosterior(
    potential, prior, transform, num_chains=20, warmup_steps=50, init_strategy="proposal"
)
print(f"sbi: {chains.sample((500,), show_progress_bars=False).mean():.3f}")
