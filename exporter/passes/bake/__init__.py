"""The pass that puts the preprocessing into a graph, and the forms that it takes."""
