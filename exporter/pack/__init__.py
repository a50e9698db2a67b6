"""A build packed for production. `formats.py` dispatches; read on in this order:

    from_build.py   a build -> `Release` (packable.py): the engines that may leave it, with goldens
    bundle.py       the folder or archive that `exporter.runtime` loads
    triton.py       a model repository around an engine or a bundle; kserve.py points at one
    javascript.py   npm packages for Node.js and the browser

What every package says of itself is in `model_card.py`, `sbom.py` and `checksums.py`. `templates/`
are filled in; `shipped/` holds programs that are copied into packages as they are.
"""
