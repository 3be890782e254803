"""Differentiable architecture search: weights of operations learn by gradients, along with the network's own."""
