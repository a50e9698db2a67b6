"""From pictures, tensors or nothing at all to the inputs that calibrate and evaluate."""
