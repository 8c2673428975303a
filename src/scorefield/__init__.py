"""scorefield: generative modelling by estimating gradients of the data distribution."""
