"""Energy and dead material of a particle shower, from the energies in the calorimeter's layers.

Run it as ``python examples/posterior_shower.py [FOLDER]``: half a minute, so a rough answer.
"""

import sys
from pathlib import Path

import physgen
from physgen.posterior.grid import grid_posterior, of_exact

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# A simulator, and a surrogate that learns its p(x|θ): cells are empty, or have an energy.
data = physgen.simulate("shower", n=1500, seed=1)
observed = physgen.simulate("shower", n=3, seed=2)
model = physgen.fit("autoregressive", data, epochs=12)

# Three showers turned around with the surrogate's likelihood, and by sbi's NPE on the dataset.
learnt = physgen.infer(model, observed, out=folder / "learnt.h5")
npe = physgen.infer(data, observed, method="npe", epochs=15, network=folder / "npe.pt")
amortised = physgen.infer(folder / "npe.pt", observed)  # no more training; so does infer(npe, …)

# The exact answer, which other simulators do not have.
simulator = observed.law.build()
exact = grid_posterior(of_exact(simulator.log_prob, observed.x), simulator.prior, len(observed))

for d, name in enumerate(simulator.prior.names):
    print(f"{name}: truth, then mean ± sd by the exact law, the surrogate, NPE")
    for i, true in enumerate(observed.theta[:, d]):
        three = (f"{p.mean[i, d]:.3f} ± {p.sd[i, d]:.3f}" for p in (exact, learnt, amortised))
        print(f"  {true:.3f}: {', '.join(three)}")
