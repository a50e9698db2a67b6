"""The stages that turn a model into graphs: export, optimize, lower, bake; and graphs in files."""
