# Settings of prod only. All settings, with descriptions and defaults: ../variables.tf

log_retention_in_days = 90

# The queues hold messages that exist nowhere else. README.md says under Protection how to end it.
deletion_protection = true

# allowed_account_ids = ["123456789012"]
# sns_topic_name      = "{{ cookiecutter.__topic }}-prod{{ cookiecutter.__fifo }}"
# alarm_actions       = ["arn:{{ cookiecutter.__partition }}:sns:{{ cookiecutter.aws_region }}:123456789012:on-call"]
# subnet_ids          = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
# security_group_ids  = ["sg-0123456789abcdef0"]
# log_level           = "INFO"
