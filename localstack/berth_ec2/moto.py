"""moto's server with the same rules: `python -m berth_ec2.moto --port 5000`. Its options are moto's."""

import os
import sys

from moto.server import main


def run(arguments: list[str]) -> None:
    if os.environ.get("BERTH_EC2", "on") != "off":
        from berth_ec2.start import start

        start()
    main(arguments)


if __name__ == "__main__":
    run(sys.argv[1:])
