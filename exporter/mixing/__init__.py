"""The stage that searches for mixed precision: `exporter/search/` on the engines of a build."""
