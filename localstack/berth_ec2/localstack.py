"""LocalStack's side: a hook that runs before its gateway opens. `BERTH_EC2=off` leaves LocalStack as it is."""

import os
import shutil
import sys
from pathlib import Path

from localstack import config
from localstack.runtime import hooks

CATALOG = "berth-service-catalog"
"""Where `venv.sh` leaves LocalStack's index of AWS services, which takes seconds and 400 MB to make."""


@hooks.on_infra_start()  # type: ignore[misc]
def on_infra_start() -> None:
    give_catalog(Path(sys.prefix) / CATALOG, Path(config.dirs.cache))
    if os.environ.get("BERTH_EC2", "on") != "off":
        # It imports moto's EC2, which LocalStack does at the first call only.
        from berth_ec2.start import start

        start()


def give_catalog(made: Path, cache: Path) -> None:
    """Copies what is missing; LocalStack looks there before it makes its own."""
    if not made.is_dir():
        return
    cache.mkdir(parents=True, exist_ok=True)
    for file in made.iterdir():
        if not (cache / file.name).exists():
            shutil.copy(file, cache)
