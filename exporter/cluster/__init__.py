"""The same work on this machine's cores or on a Ray cluster's, part by part."""
