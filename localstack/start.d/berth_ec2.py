"""For LocalStack in Docker, where the package is mounted and not installed: does what the hook does elsewhere."""

import sys

sys.path.insert(0, "/opt/berth")

from berth_ec2 import localstack  # found from here on

localstack.install()
