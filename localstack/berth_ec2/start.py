"""What both programs do first: rules into moto, settings from the environment, the admin listener."""

import json
import os

from berth_ec2 import admin, joints
from berth_ec2.region import PROCESS
from berth_ec2.settings import changed


def start() -> None:
    """`BERTH_EC2_SETTINGS` is a JSON object as for the admin listener, `BERTH_EC2_ADMIN` its host and port."""
    joints.install()
    PROCESS.settings = changed(PROCESS.settings, json.loads(os.environ.get("BERTH_EC2_SETTINGS") or "{}"))
    address = os.environ.get("BERTH_EC2_ADMIN")
    if address:
        admin.serve(address)
