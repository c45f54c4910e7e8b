"""LocalStack's side: a hook that runs before its gateway opens. `BERTH_EC2=off` leaves LocalStack as it is."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from localstack import config
from localstack.aws.api import CommonServiceException
from localstack.aws.handlers.service import ServiceExceptionSerializer
from localstack.aws.protocol.parser import OperationNotFoundParserError
from localstack.runtime import hooks

from berth_ec2 import refusals

CATALOG = "berth-service-catalog"
"""Where `venv.sh` leaves LocalStack's index of AWS services, which takes seconds and 400 MB to make."""


@hooks.on_infra_start()  # type: ignore[misc]
def on_infra_start() -> None:
    give_catalog(Path(sys.prefix) / CATALOG, Path(config.dirs.cache))
    if os.environ.get("BERTH_EC2", "on") != "off":
        install()


def install() -> None:
    """Everything but the index."""
    # It imports moto's EC2, which LocalStack does at the first call only.
    from berth_ec2.start import start

    refuse_unknown_actions()
    start()


def refuse_unknown_actions() -> None:
    """LocalStack's gateway answers an action that EC2 does not have with an internal error, before moto hears of it."""
    original = ServiceExceptionSerializer.create_exception_response

    def create_exception_response(serializer: Any, exception: Exception, context: Any) -> Any:
        if isinstance(exception, OperationNotFoundParserError) and context.service.service_name == "ec2":
            refusal = refusals.invalid_action(context.request.values.get("Action", ""))
            # Any operation will do: all of them write errors alike.
            context.operation = context.service.operation_model(context.service.operation_names[0])
            exception = CommonServiceException(refusal.code, refusal.message, refusal.status)
        return original(serializer, exception, context)

    ServiceExceptionSerializer.create_exception_response = create_exception_response


def give_catalog(made: Path, cache: Path) -> None:
    """Copies what is missing; LocalStack looks there before it makes its own."""
    if not made.is_dir():
        return
    cache.mkdir(parents=True, exist_ok=True)
    for file in made.iterdir():
        if not (cache / file.name).exists():
            shutil.copy(file, cache)
