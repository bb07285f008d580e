"""What the frozen program runs: the same beginning as `python -m appliance`."""

import os
import sys

# numpy's OpenBLAS starts a thread per processor core while it is imported, in every process: a sixth of a
# start's time, for products too small to need them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from appliance.__main__ import main

sys.exit(main())
