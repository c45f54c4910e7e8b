"""Where moto is taken hold of: `EC2Response.call_action`, through which every EC2 action passes in moto's server and in
LocalStack alike, and the methods of moto's that it calls.

The one place that knows moto's own names for its methods and how it writes an answer. Decides nothing about EC2.
"""

import html
import uuid
from collections.abc import Callable
from typing import Any

from botocore.model import OperationNotFoundError
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import FilterNotImplementedError
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses import EC2Response

from berth_ec2 import eni_calls, instance_calls, launches, refusals
from berth_ec2.eni_calls import Call
from berth_ec2.enis import Eni
from berth_ec2.launches import Nic
from berth_ec2.params import Params
from berth_ec2.refusals import Refusal
from berth_ec2.region import PROCESS, Backend, MotoSubnet, record_of, region_of
from berth_ec2.wanted import NewEni

READS = ("Describe", "Get", "List")
"""How actions begin that change nothing."""

WireAnswer = tuple[int, dict[str, Any], str | bytes]


def install() -> None:
    """From now on moto's EC2 has rules. Once is enough."""
    if getattr(EC2Response.call_action, "_berth", False):
        return
    launches.install()
    _install_enis()
    Subnet.available_ip_address_count = property(_free)
    Subnet.ipv6_cidr_block_association_set = property(_ipv6_blocks)
    for name, action in eni_calls.ACTIONS.items():
        setattr(EC2Response, name, _whole(action))
    for name, adapted in instance_calls.ACTIONS.items():
        setattr(EC2Response, name, _adapted(adapted, getattr(EC2Response, name)))
    EC2Response.call_action = _guarded(EC2Response.call_action)
    EC2Response._dispatch = _known(EC2Response._dispatch)


def _guarded(original: Callable[[Any], WireAnswer]) -> Callable[[Any], WireAnswer]:
    """One call at a time, at its moment, with refusals as EC2 writes them."""

    def call_action(response: Any) -> WireAnswer:
        timeline = PROCESS.timeline
        with timeline.lock:
            timeline.advance()
            try:
                answer = original(response)
            except Refusal as refusal:
                return _refused(refusal)
            except FilterNotImplementedError as error:
                # As EC2 does with a filter that it does not have; theirs is an internal error.
                return _refused(Refusal("InvalidParameterValue", str(error)))
            if answer[0] < 300 and not response._get_action().startswith(READS):
                timeline.touch()
            return answer

    call_action._berth = True  # type: ignore[attr-defined]
    return call_action


def _known(original: Callable[..., WireAnswer]) -> Callable[..., WireAnswer]:
    """An action that EC2 does not have is refused; moto's server would answer with a page of HTML."""

    def dispatch(response: Any, *arguments: Any, **more: Any) -> WireAnswer:
        try:
            return original(response, *arguments, **more)
        except OperationNotFoundError:
            return _refused(refusals.invalid_action(response._get_action()))

    return dispatch


def _refused(refusal: Refusal) -> WireAnswer:
    """Written here: the two releases of moto write an error in different ways, and LocalStack reads only one."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{html.escape(refusal.code)}</Code><Message>{html.escape(str(refusal.message))}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    )
    return refusal.status, {"Content-Type": "text/xml", "status": str(refusal.status)}, body


def _call(response: Any) -> Call:
    parameters = Params(response._get_param)
    return Call(region_of(response.ec2_backend), parameters, response.params, response._filters_from_querystring())


def _whole(action: Callable[[Call], eni_calls.Answer | None]) -> Callable[[Any], ActionResult]:
    def method(response: Any) -> ActionResult:
        answer = action(_call(response))
        return EmptyResult() if answer is None else ActionResult(answer)

    return method


def _adapted(action: Callable[[Call, instance_calls.Original], Any], original: Any) -> Callable[[Any], ActionResult]:
    def method(response: Any) -> ActionResult:
        return ActionResult(action(_call(response), lambda: original(response).result))

    return method


def _free(subnet: MotoSubnet) -> int:
    return record_of(subnet).book.free()


def _ipv6_blocks(subnet: MotoSubnet) -> list[dict[str, Any]]:
    """moto writes the state as Python would print it."""
    return [
        {
            "AssociationId": one["associationId"],
            "Ipv6CidrBlock": one["ipv6CidrBlock"],
            "Ipv6CidrBlockState": {"State": one["ipv6CidrBlockState"]["State"]},
        }
        for one in subnet.ipv6_cidr_block_associations.values()
        if one["ipv6CidrBlockState"]["State"] == "associated"
    ]


def _install_enis() -> None:
    """What moto's other parts (NAT gateways, endpoints, tags) ask about ENIs."""

    def create(
        backend: Backend,
        subnet: Any,
        *_: Any,
        group_ids: Any = None,
        description: Any = None,
        **__: Any,
    ) -> Nic:
        region = region_of(backend)
        record = region.subnet(subnet if isinstance(subnet, str) else subnet.id)
        groups = region.groups(record.vpc, group_ids or [])
        # They ask for an address anywhere at all: EC2 chooses.
        return Nic(region, region.world.create(record, groups, NewEni(description=description or "")))

    def find(backend: Backend, eni: str) -> Eni:
        return region_of(backend).world.eni(eni)

    def described(backend: Backend, filters: Any = None) -> list[Nic]:
        region, wanted = region_of(backend), (filters or {}).get("network-interface-id")
        ids = [wanted] if isinstance(wanted, str) else wanted or list(region.world.enis)
        return [Nic(region, find(backend, one)) for one in ids]

    NetworkInterfaceBackend.create_network_interface = create
    NetworkInterfaceBackend.get_network_interface = lambda backend, eni_id: Nic(region_of(backend), find(backend, eni_id))
    NetworkInterfaceBackend.delete_network_interface = lambda backend, eni_id: region_of(backend).world.drop(
        find(backend, eni_id)
    )
    NetworkInterfaceBackend.describe_network_interfaces = described
    NetworkInterfaceBackend.get_all_network_interfaces = lambda backend, eni_ids=None, filters=None: described(
        backend, {"network-interface-id": eni_ids} if eni_ids else filters
    )
