"""Energy and dead material of a particle shower, from the energies in the calorimeter's layers.

Run it as ``python examples/posterior_shower.py [FOLDER]``: half a minute, so a rough answer.
"""

import sys
from pathlib import Path

import physgen
from physgen.posterior.grid import grid_posterior, of_exact

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
data, test, model = (folder / name for name in ("shower.h5", "observed.h5", "shower.pt"))

# A simulator, and a surrogate that learns its p(x|θ): cells are empty, or have an energy.
physgen.simulate("shower", out=data, n=1500, seed=1)
physgen.simulate("shower", out=test, n=3, seed=2)
physgen.fit("autoregressive", data, out=model, epochs=12)

# Three showers turned around with the surrogate's likelihood, and by sbi's NPE on the dataset.
learnt = physgen.infer(model, test, out=folder / "learnt.h5").posterior
network = folder / "npe.pt"
physgen.infer(data, test, out=folder / "npe.h5", method="npe", epochs=15, network=network)
amortised = physgen.infer(network, test, out=folder / "again.h5").posterior  # no more training

# The exact answer, which other simulators do not have.
rows = physgen.read(test)
simulator = rows.meta.law.build()
exact = grid_posterior(of_exact(simulator.log_prob, rows.x), simulator.prior, len(rows))

for d, name in enumerate(simulator.prior.names):
    print(f"{name}: truth, then mean ± sd by the exact law, the surrogate, NPE")
    for i, true in enumerate(rows.theta[:, d]):
        three = (f"{p.mean[i, d]:.3f} ± {p.sd[i, d]:.3f}" for p in (exact, learnt, amortised))
        print(f"  {true:.3f}: {', '.join(three)}")
