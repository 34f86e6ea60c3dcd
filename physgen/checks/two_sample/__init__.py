"""Do two samples follow one law? Classifiers, kernels, histograms, Fréchet distances."""
