"""The inverse temperature of an Ising lattice: one surrogate, and its posterior made four ways.

Run it as ``python examples/posterior_ising.py [FOLDER]``: less than half a minute.
"""

import sys
from pathlib import Path

import torch
from sbi.inference import MCMCPosterior
from sbi.inference.potentials import likelihood_estimator_based_potential
from sbi.utils import BoxUniform

import physgen

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
data, test, model = (folder / name for name in ("ising.h5", "observed.h5", "ising.pt"))

# A simulator, and a surrogate that learns its p(x|θ).
physgen.simulate("ising", out=data, n=2000, size=6, seed=1)
physgen.simulate("ising", out=test, n=1, size=6, seed=3)
physgen.fit("autoregressive", data, out=model, epochs=5)

# One lattice turned around: on the grid, by Markov chains, by NPE on samples of the surrogate.
for method, few in (("grid", {}), ("mcmc", {}), ("npe", {"simulations": 1000, "epochs": 10})):
    found = physgen.infer(model, test, out=folder / f"{method}.h5", method=method, **few)
    low, high = found.posterior.interval(0.9)[0, :, 0]
    print(f"{method}: {found.posterior.mean[0, 0]:.3f}, in [{low:.3f}, {high:.3f}] with 90 %")

# The same likelihood inside sbi, for whatever sbi does with one.
surrogate, _ = physgen.load(model)
box = surrogate.law.prior
prior = BoxUniform(torch.tensor(box.low).float(), torch.tensor(box.high).float())
x = torch.from_numpy(physgen.read(test).x).float()
potential, transform = likelihood_estimator_based_potential(surrogate.as_sbi(), prior, x)
chains = MCMCPosterior(
    potential, prior, transform, num_chains=20, warmup_steps=50, init_strategy="proposal"
)
print(f"sbi: {chains.sample((500,), show_progress_bars=False).mean():.3f}")
