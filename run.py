"""Starts the appliance from a checkout, and is what the one-file program is made of: `python run.py`."""

import sys

from appliance.cli import main

if __name__ == "__main__":
    sys.exit(main())
