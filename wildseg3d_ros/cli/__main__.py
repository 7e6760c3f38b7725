"""``python -m wildseg3d_ros.cli``."""

import sys

from wildseg3d_ros.cli import main

sys.exit(main())
