"""One run, given configuration, data and work folder: checks, training, blending, prediction."""
