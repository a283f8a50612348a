"""The experiments' own arithmetic: the fit of the patch prior."""

import fit_patch_prior
from blurlib.deblurring import PatchPrior


def test_patch_prior_is_fitted(tmp_path, capsys):
    """Few patches and components: the likelihood rises with every step on the same patches."""
    place = tmp_path / "prior.npz"
    fit_patch_prior.main(f"--components 4 --patches 4000 --steps 6 --output {place}".split())
    likelihoods = [float(line.split()[4].rstrip(",")) for line in capsys.readouterr().out.splitlines()]
    assert likelihoods[1] < likelihoods[2] and likelihoods[3] < likelihoods[4] < likelihoods[5]
    prior = PatchPrior.load(place)
    assert prior.side == 8 and len(prior.weights) == 4
    assert (prior.weights.diff() <= 0).all()
