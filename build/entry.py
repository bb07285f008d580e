"""What the frozen program runs: the same beginning as `python -m appliance`."""

import sys

from appliance.__main__ import main

sys.exit(main())
