"""Black-box checks of EC2's behaviour around ENIs and addresses, driven with boto3.

`checks.tsv` is the list: an id, the EC2 action, what is expected, and where that is known from. Each id is a function here
of the same name; other clients run the same ids. Sources: `doc` is the EC2 API reference (the text that comes with
botocore), `field` is known from error messages in public issues or from what other CNIs handle. `stock` says whether
LocalStack passes the check without our package (localstack/README.md). Two more lists are not for every backend:
`ipv6.tsv`, and `admin.tsv` for the listener that comes with that package, whose source is `ours`.
"""
