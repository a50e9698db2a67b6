"""A build on disk: its folder, its manifest, and how both are written whole or not at all."""
