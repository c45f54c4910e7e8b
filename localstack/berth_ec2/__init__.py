"""What Berth needs of EC2 and LocalStack does not have: an EC2 whose ENIs and addresses have rules.

The rules are in `world` and below it and know neither moto nor HTTP. `joints` puts them into moto's EC2, which is also
LocalStack's; `localstack` and `moto` are the two programs that do so; `admin` shows what is true and takes settings.
"""
