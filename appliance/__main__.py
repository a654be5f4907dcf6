"""`python -m appliance` is the same program as `classroom-observer`."""

import sys

from appliance.cli import main

if __name__ == "__main__":
    sys.exit(main())
