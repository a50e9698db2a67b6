"""What a build is packed into for production, one format a file, and what every package says of
itself (`model_card.py`, `sbom.py`). `formats.py` dispatches.
"""
