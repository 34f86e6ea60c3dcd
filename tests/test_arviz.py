"""ArviZ reads an exported posterior: 0.x as InferenceData, 1.x as an xarray DataTree."""

import numpy as np
import pytest

import physgen
from physgen.dataset import posterior_arrays
from physgen.surrogates.autoregressive import Autoregressive

arviz = pytest.importorskip("arviz")


@pytest.mark.parametrize("rows", [1, 3])
def test_arviz_reads_what_was_exported(rows, tmp_path):
    law = physgen.simulate("gaussian", size=2, n=3)
    model = Autoregressive.create(law.law, Autoregressive.Config()).eval()
    found = physgen.infer(model, law[:rows], samples=40)
    physgen.export(found, format="arviz", out=tmp_path / "p.nc")
    arrays, about = posterior_arrays(found)
    read = arviz.from_netcdf(tmp_path / "p.nc")
    for d, name in enumerate(about["parameters"]):
        drawn = np.asarray(read["posterior"][name]).reshape(-1, rows)
        assert np.array_equal(drawn, arrays["theta"][..., d].T)
    assert read["posterior"][name].dims[:2] == ("chain", "draw")
    assert "lp" in read["sample_stats"]
    assert read["posterior"].attrs["inference_library"] == "physgen"
    mean = arviz.summary(read, var_names=[name], kind="stats")["mean"]
    assert float(mean.iloc[0]) == pytest.approx(arrays["theta"][0, :, d].mean(), abs=0.05)
