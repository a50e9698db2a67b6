"""What INT8 needs beyond a graph: ranges from data, weights rounded and biases corrected."""
