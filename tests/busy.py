"""``python -m tests.busy [TIMES] [PYTEST ARGUMENT...]``: run the tests while other processes keep the processors busy.

As many processes as there are processors compute without end while the tests run TIMES times (default 3). A
test that fails here and passes elsewhere waits for a time but should wait for a condition.
"""

from __future__ import annotations

import os
import subprocess
import sys

COMPUTE = "while True: pass"


def main(arguments: list[str]) -> int:
    times = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 3
    busy = [subprocess.Popen([sys.executable, "-c", COMPUTE]) for _ in range(os.cpu_count() or 1)]
    try:
        for number in range(1, times + 1):
            print(f"Run {number} of {times}, beside {len(busy)} processes that keep the processors busy.", flush=True)
            if code := subprocess.run([sys.executable, "-m", "pytest", *arguments]).returncode:
                return code
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
