# What is particular to dev. All settings, with what they mean and their defaults: ../variables*.tf

log_retention_in_days = 14

{% if cookiecutter.compute == "fargate" %}
# The subnets that the tasks run in, with a way out to AWS's services. Nothing can be planned without.
# subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]

{% endif %}
# allowed_account_ids = ["123456789012"]
# sns_topic_name      = "{{ cookiecutter.sns_topic_name }}-dev"
# alarm_actions       = ["arn:aws:sns:{{ cookiecutter.aws_region }}:123456789012:on-call"]
{% if cookiecutter.compute == "fargate" %}
# cpu                 = 256
# memory              = 512
# timeout             = 1800
# max_capacity        = 10
{% else %}
# memory_size         = 512
# timeout             = 30
# maximum_concurrency = 10
{% endif %}
# log_level           = "INFO"
