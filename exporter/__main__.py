"""`python -m exporter`: the same as the console script."""

import sys

if not sys.flags.safe_path:
    # Last, not first as Python has it: what is imported later must not come from there.
    sys.path.append(sys.path.pop(0))

from exporter.cli import main

if __name__ == "__main__":
    main()
