"""What the file system must be asked for with care, and nothing else: files that appear whole."""
