"""What a build is packed into besides the bundle, one format a file, and what every bundle says of
itself (`model_card.py`, `sbom.py`). `pack.py` dispatches.
"""
