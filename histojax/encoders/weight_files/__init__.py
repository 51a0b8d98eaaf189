"""Files of weights: how they name arrays, what does not fit, where published ones are."""
