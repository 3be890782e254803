"""The command line, with the block of ``custom_block.py`` known to every command::

python examples/with_custom_block.py optimize --study examples/grouped.yaml --trials 50
python examples/with_custom_block.py export-best --study grouped --output grouped-bundle
python examples/with_custom_block.py train --bundle grouped-bundle --data imagefolder:PATH --output runs/grouped
"""

from __future__ import annotations

import custom_block  # noqa: F401  (importing it registers the block)

from zenopt.cli import main

if __name__ == "__main__":
    main()
