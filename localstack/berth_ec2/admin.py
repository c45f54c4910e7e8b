"""The admin listener: what is true, whatever EC2 tells, and the settings. Loopback, HTTP/1.1, JSON. Not part of EC2, and not
for what is tested: for those who test.
"""

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from berth_ec2 import answers
from berth_ec2.region import PROCESS, MotoInstance, MotoSubnet, Region, regions
from berth_ec2.settings import SettingsError, changed

PATIENCE = 20.0
"""Seconds that a question about the next revision waits at most."""


class Listener(ThreadingHTTPServer):
    """Threads of their own, which end with the process."""

    daemon_threads = True
    request_queue_size = 64


def serve(address: str) -> Listener:
    """Listens at `host:port` from now on, in a thread of its own."""
    host, _, port = address.rpartition(":")
    listener = Listener((host, int(port)), Admin)
    threading.Thread(target=listener.serve_forever, daemon=True, name="berth-ec2-admin").start()
    return listener


def state() -> dict[str, Any]:
    """The truth. Under the timeline's lock."""
    found: dict[str, Any] = {"revision": PROCESS.timeline.revision, "at_ms": PROCESS.timeline.now()}
    found |= {"vpcs": [], "subnets": [], "instances": [], "enis": []}
    for region in regions():
        enis = list(region.world.enis.values())
        # moto makes a VPC in every region that somebody looks at. It is nobody's as long as nobody uses it.
        used = {eni.subnet.vpc for eni in enis}
        vpcs = [vpc for vpc in region.backend.vpcs.values() if not vpc.is_default or vpc.id in used]
        shown = {vpc.id for vpc in vpcs}
        found["vpcs"] += [_vpc(vpc) for vpc in vpcs]
        found["subnets"] += [_subnet(one) for one in region.backend.describe_subnets() if one.vpc_id in shown]
        found["instances"] += [_instance(region, instance) for _, instance in region.instances()]
        found["enis"] += [answers.truth(eni, region.tags(eni.id)) for eni in enis]
    return found


class Admin(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        timeline = PROCESS.timeline
        with timeline.lock:
            match asked.path:
                case "/health":
                    answer: Mapping[str, Any] = {"revision": timeline.revision}
                case "/settings":
                    answer = PROCESS.settings.as_json()
                case "/state":
                    after = parse_qs(asked.query).get("after", [""])[0]
                    if after and not after.isdecimal():
                        return self._refuse(HTTPStatus.BAD_REQUEST, f"after: expected a number, got {after!r}")
                    if after:
                        timeline.wait(int(after), PATIENCE)
                    else:
                        timeline.advance()
                    answer = state()
                case _:
                    return self._refuse(HTTPStatus.NOT_FOUND, f"there is no {asked.path}")
        return self._answer(HTTPStatus.OK, answer)

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path != "/settings":
            return self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path} to change")
        with PROCESS.timeline.lock:
            try:
                PROCESS.settings = changed(PROCESS.settings, json.loads(body))
            except (SettingsError, UnicodeDecodeError, json.JSONDecodeError) as error:
                return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            answer = PROCESS.settings.as_json()
        return self._answer(HTTPStatus.OK, answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: whoever asks has the answer."""

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._answer(status, {"error": message})

    def _answer(self, status: HTTPStatus, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _vpc(vpc: Any) -> dict[str, Any]:
    return {"id": vpc.id, "cidrs": [one["cidr_block"] for one in vpc.get_cidr_block_association_set()]}


def _subnet(subnet: MotoSubnet) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "vpc": subnet.vpc_id,
        "cidr": subnet.cidr_block,
        "zone": subnet.availability_zone,
        "free": subnet.available_ip_address_count,
    }


def _instance(region: Region, instance: MotoInstance) -> dict[str, Any]:
    machine = region.machine(instance.id)
    return {
        "id": machine.id,
        "type": machine.limits.name,
        "state": machine.state.name,
        "vpc": instance.vpc_id,
        "subnet": instance.subnet_id,
        "zone": machine.zone,
        "launched_ms": machine.launched,
    }
